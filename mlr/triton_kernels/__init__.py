"""The one-pass step on CUDA, in Triton; `launch` alone needs no Triton."""

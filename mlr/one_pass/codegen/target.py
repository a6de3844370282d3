"""What code is laid out for: the vectors, registers and cache lines of a processor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Target(NamedTuple):
    """A kind of processor.

    Attributes:
        vector_bytes: Bytes of a vector.
        registers: How many vectors it keeps in registers.
        cache_line: Bytes that a cache holds or leaves as one.
        in_halves: Whether an instruction takes one half of a vector after the other.
    """

    vector_bytes: int
    registers: int
    cache_line: int = 64
    in_halves: bool = False

    @classmethod
    def of(cls, triple: str, features: Mapping[str, bool], cpu: str = "") -> Target:
        """Return the target of a processor, by LLVM's words for it.

        >>> Target.of("x86_64-unknown-linux-gnu", {"avx": True, "avx512f": True})
        Target(vector_bytes=64, registers=32, cache_line=64, in_halves=False)

        Args:
            triple: Architecture, vendor and system.
            features: Which instructions there are; of x86 those of AVX count.
            cpu: Which one it is; of those with AVX-512, AMD's Zen 4 has units for half a vector.
        """
        if triple.startswith(("aarch64", "arm64")):
            return APPLE if "-apple-" in triple else NEON
        if features.get("avx512f"):
            return ZEN4 if cpu == "znver4" else AVX512
        return AVX if features.get("avx") else SSE


SSE, AVX, AVX512 = Target(16, 16), Target(32, 16), Target(64, 32)  # of x86-64
ZEN4 = AVX512._replace(in_halves=True)
NEON, APPLE = Target(16, 32), Target(16, 32, cache_line=128)  # of 64-bit ARM

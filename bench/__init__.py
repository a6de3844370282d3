"""How the kernels of mlr are measured, stored and shown; in the wheel its name is `mlr_bench`."""


def main() -> int:
    """Run a command and return its exit status: what the script `mlr-bench` calls."""
    from .__main__ import start

    return start()

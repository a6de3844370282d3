"""A clock whose time passes only when a call says so, in the place of the processor's."""

from collections.abc import Callable


class FakeClock:
    """Time that passes only when a call says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def call(self, seconds: float) -> Callable[[], None]:
        """Return a call that takes so long."""

        def call() -> None:
            self.now += seconds

        return call

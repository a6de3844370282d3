"""What one call does, counted: where its time has noise, these numbers are exact."""

import sys
from types import FrameType
from typing import Any

from mlr.one_pass.assembly import count_instructions

from ..machine.device_memory import traced_events
from ..machine.host import Call

CALL_COUNTS = ("operators", "allocations", "allocated_bytes", "function_calls")


def count_work(call: Call, assembly: str | None) -> dict[str, int]:
    """Count what a call does that was made before, and what is in the assembly that it runs.

    The counts are `CALL_COUNTS`: of ATen's operators, with those that they call in turn; of what
    torch allocates; and of calls of functions, Python's and built in, that this thread makes. With
    assembly `Instructions` are added. A count that differs between two calls is left out.
    """
    first, second = _count(call), _count(call)
    counts = {name: count for name, count in first.items() if second[name] == count}
    return counts | (count_instructions(assembly)._asdict() if assembly else {})


def _count(call: Call) -> dict[str, int]:
    function_calls = -1  # the one that ends the count is none of them

    def seen(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal function_calls
        function_calls += event in ("call", "c_call")

    def watched() -> None:
        before = sys.getprofile()
        sys.setprofile(seen)
        try:
            call()
        finally:
            sys.setprofile(before)

    events = traced_events(watched)
    operators = sum(event.name().startswith("aten::") for event in events)
    changes = [event.nbytes() for event in events if event.name() == "[memory]"]
    given = [size for size in changes if size > 0]  # what is freed is below 0
    counts = (operators, len(given), sum(given), function_calls)
    return dict(zip(CALL_COUNTS, counts, strict=True))

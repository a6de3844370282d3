"""Ceilings of several processes or runs -> the best of them; times that no bound allows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from .schema import Ceilings, Head, Run

MIN_RATIO = 0.9  # of the bound, measured on a noisy machine: no call is faster
BEYOND = "faster than the roofline bound"
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def beyond_bounds(hot: float, cold: float) -> Iterator[str]:
    """Say in words where a time, hot or cold, is less than its bound; each is time ÷ bound."""
    for share, inputs in ((hot, ""), (cold, " of inputs from memory")):
        if share < MIN_RATIO:
            yield f"{BEYOND}{inputs}: {share:.2f} of the least time"


def best_ceilings(seen: Sequence[Mapping[str, Ceilings]]) -> dict[str, Ceilings]:
    """Return the best that processes or runs reached, and the worst, by the name of ceilings."""
    return _each(seen, _best)


def _each(
    tables: Sequence[Mapping[_Key, _Value]], pick: Callable[[Sequence[_Value]], _Value]
) -> dict[_Key, _Value]:
    """Return what is picked of the values under each key, of those that have it."""
    keys = dict.fromkeys(key for one in tables for key in one)
    return {key: pick([one[key] for one in tables if key in one]) for key in keys}


def _best(some: Sequence[Ceilings]) -> Ceilings:
    worst = [one.worst or one for one in some]
    return _picked(some, min, max).model_copy(update={"worst": _picked(worst, max, min)})


_Pick = Callable[[Sequence[float]], float]


def _picked(some: Sequence[Ceilings], of_times: _Pick, of_rates: _Pick) -> Ceilings:
    dispatch_s = [one.dispatch_s for one in some if one.dispatch_s is not None]
    bandwidths = [{size: rate for size, rate in one.bandwidth_bytes_per_s} for one in some]
    rates = _each(bandwidths, of_rates)
    cold = [one.cold_bytes_per_s for one in some if one.cold_bytes_per_s is not None]
    return some[0].model_copy(
        update={
            "dispatch_s": of_times(dispatch_s) if dispatch_s else None,
            "bandwidth_bytes_per_s": [[size, rates[size]] for size in sorted(rates)],
            "flops_per_s": _each([one.flops_per_s for one in some], of_rates),
            "cold_bytes_per_s": of_rates(cold) if cold else None,
            "worst": None,
        }
    )


def with_best_ceilings(run: Run, others: Iterable[Head]) -> Run:
    """Return a run with the best ceilings of all runs of its machine, by number of threads.

    One run can find the memory busy with what its neighbours on a shared machine do, and a bound
    that is too slow with it.
    """
    machine, own = run.machine, run.machine.ceilings
    known = [own]
    for other in others:
        if other.machine.slug == machine.slug:
            known.append(
                {
                    name: reached
                    for name, reached in other.machine.ceilings.items()
                    if name in own and reached.last_cache_bytes == own[name].last_cache_bytes
                }
            )
    found = machine.model_copy(update={"ceilings": best_ceilings(known)})
    return run.model_copy(update={"machine": found})

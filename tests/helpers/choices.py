"""What `auto` has chosen so far, which the tests of a tuning table start without."""

from mlr import dispatch, gradients, tuning


def forget_choices() -> None:
    """Forget every table that was read and every kernel that was selected by one."""
    for known in (
        tuning.read_table,
        tuning.current_table,
        dispatch.select_kernel,
        dispatch.select_by_sizes,
        gradients.select_gradient,
    ):
        known.cache_clear()

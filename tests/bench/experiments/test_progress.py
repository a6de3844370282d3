"""What an experiment shows."""

from bench.experiments.progress import on_exclusive_machine


def test_brackets_in_what_is_shown_are_no_markup() -> None:
    with on_exclusive_machine() as show:
        show("a step of [/opt/torch]")

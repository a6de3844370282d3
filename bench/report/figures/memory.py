"""Peak memory of one call against m, n and o: measured marks on the line of the prediction."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...common.units import format_byte_tick, format_bytes
from .. import style
from . import Slot, View, figure


@figure(
    "memory",
    title="peak memory against m, n and o",
    where={"html", "markdown"},
    slots=(Slot("memory-gradient", 7, "gradient"),),
)
def draw(view: View) -> Figure:
    """Draw what was measured, and hollow what was predicted for a case that was not.

    What the machine has is drawn where predictions come near it.
    """
    figure, every = style.make_panels(view.panels, "peak memory of one call beyond its inputs")
    for axes, panel in zip(every, view.panels, strict=True):
        for kernel, line in panel.rows.groupby("kernel"):
            _draw_kernel(axes, line.sort_values(panel.axis), panel.axis, view.looks[str(kernel)])
    shown = pd.concat([panel.rows for panel in view.panels])
    notes = [style.entry("measured", "o"), style.entry("predicted", line="-")]
    if (shown["status"] != "ok").any():
        notes.append(style.entry("predicted, not measured", "o", hollow=True))
    limit = view.run.machine.memory_bytes if view.part.device == "cpu" else None
    if limit and shown["predicted_peak_bytes"].max() > limit / 10:
        notes.append(style.entry(f"this machine's {format_bytes(limit)}", line=":"))
        for axes in every:
            axes.axhline(limit, color=style.GREY, linestyle=":", linewidth=1.4)
    style.share_log_axis(every, format_byte_tick, base=32)
    style.add_legend(figure, style.kernel_entries(shown, view.looks) + notes)
    question = f"How much memory does one {view.name} hold?"
    style.add_title_and_footer(figure, question, view.rows, view.unseen(shown))
    return figure


def _draw_kernel(axes: Axes, line: pd.DataFrame, axis: str, look: style.Style) -> None:
    theory = line[line["predicted_peak_bytes"] > 0]
    axes.plot(theory[axis].to_numpy(), theory["predicted_peak_bytes"].to_numpy(),
              color=look.colour, linestyle=look.line, linewidth=look.width, alpha=0.7)  # fmt: skip
    known, missing = line[line["peak_bytes"] > 0], theory[theory["status"] != "ok"]
    look.draw(axes, known[axis], known["peak_bytes"], size=6)
    look.draw(axes, missing[axis], missing["predicted_peak_bytes"], hollow=True, size=6)

"""The error of each kernel against m, n and o, and the unit roundoff of the dtype."""

import pandas as pd
from matplotlib.figure import Figure

from ...common.units import format_error
from .. import style
from . import View, figure

_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53, "bfloat16": 2.0**-8}


def _known(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the cases with an error above zero, which a log axis can show."""
    return rows[(rows["status"] == "ok") & rows["max_rel_error"].gt(0)]


@figure("error", title="error against m, n and o", when=lambda rows: len(_known(rows)) > 0)
def draw(view: View) -> Figure:
    """Draw the largest error of each kernel, relative to the terms of its sum."""
    figure, every = style.make_panels(view.panels, "largest error, relative to its sum's terms")
    unit = _ROUNDOFF.get(view.part.dtype)
    for axes, panel in zip(every, view.panels, strict=True):
        for kernel, some in _known(panel.rows).sort_values(panel.axis).groupby("kernel"):
            look = view.looks[str(kernel)]
            look.draw(axes, some[panel.axis], some["max_rel_error"], line=True)
        if unit:
            axes.axhline(unit, color=style.GREY, linestyle=":", linewidth=1.4)
    style.share_log_axis(every, format_error, base=10)
    shown = pd.concat([panel.rows for panel in view.panels])
    notes = [style.entry(f"unit roundoff of {view.part.dtype}", line=":")] if unit else []
    style.add_legend(figure, style.kernel_entries(shown, view.looks) + notes)
    style.add_title_and_footer(figure, f"How exact is one {view.name}?", view.rows)
    return figure

"""The history of a training run in, charts of its accuracy and loss over the epochs out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cnnlib.reports.percent import format_percent
from cnnlib.runs.history import EpochRecord
from cnnlib.views.page import formatting
from cnnlib.views.page.charts import Format, LineChart, Sample, line_chart, number_tick, percent_tick


def learning_curves(history: Sequence[EpochRecord], checkpoint_epoch: int | None) -> list[LineChart]:
    """Draws a chart of the accuracy and one of the loss; empty without a history.

    Args:
        checkpoint_epoch: marked by a vertical line; None: no line.
    """
    charts = (
        _chart(history, "accuracy", percent_tick, format_percent, checkpoint_epoch),
        _chart(history, "loss", number_tick, formatting.number, checkpoint_epoch),
    )
    return [chart for chart in charts if chart is not None]


def _chart(
    history: Sequence[EpochRecord],
    metric: str,
    y_tick_format: Format,
    value_format: Format,
    checkpoint_epoch: int | None,
) -> LineChart | None:
    def samples(column: str) -> list[Sample]:
        values = [(record.epoch, getattr(record, column)) for record in history]
        return [
            Sample(x=epoch, y=value, label=f"epoch {epoch}: {value_format(value)}")
            for epoch, value in values
            if value is not None and math.isfinite(value)  # a run that diverged has a loss of NaN
        ]

    training, validation = samples(metric), samples(f"validation_{metric}")
    if not training:
        return None
    ranges = [
        f"{name} {metric} from {value_format(line[0].y)} to {value_format(line[-1].y)}"
        for name, line in (("training", training), ("validation", validation))
        if line
    ]
    summary = f"{', '.join(ranges)}, over {formatting.plural(len(training), 'epoch')}."
    return line_chart(
        metric.capitalize(),
        [("training", training), ("validation", validation)],
        summary=summary[0].upper() + summary[1:],
        width=440,
        height=230,
        x_title="epoch",
        y_tick_format=y_tick_format,
        value_format=value_format,
        cursor=checkpoint_epoch,
    )

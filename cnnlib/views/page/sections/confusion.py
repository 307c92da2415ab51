"""Confusion counts and mistakes in; the heat map or the worst pairs, and the mistakes of each pair out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlib.metrics.sums.confusion import ConfusionCounts
from cnnlib.views.page.images import MAX_SHEET_BYTES, Pixels, Sheet, build_sheet
from cnnlib.views.page.sections.mistakes import Mistake, Pair

MAX_MATRIX_CLASSES = 30
"""With more classes a page lists the worst pairs in place of the confusion matrix."""
WORST_PAIRS = 40
"""Length of that list."""
HEAT_LEVELS = 8
"""Shades of the heat map; level 0 has no shade."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The rows of one true class that were predicted as one class.

    Attributes:
        fraction: of the true class's rows, 0..1.
        heat: shade in 0..`HEAT_LEVELS`; 0 on the diagonal and for pairs that did not occur.
        opens: whether the page can show mistakes of this pair.
    """

    true: int
    predicted: int
    count: int
    fraction: float
    heat: int
    opens: bool

    @property
    def key(self) -> str:
        """The key of the pair in `mistakes_json`."""
        return f"{self.true}-{self.predicted}"

    @property
    def is_correct(self) -> bool:
        """Whether the cell is on the diagonal."""
        return self.true == self.predicted


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """The confusion matrix as rows of cells, or, for many classes, only the worst pairs.

    Attributes:
        matrix: a row of cells per true class; empty for many classes.
        pairs: most frequent first; empty if there is a matrix.
        total: number of mistakes.
        worst: the most frequent pair; None without mistakes.
    """

    matrix: Sequence[Sequence[Cell]]
    pairs: Sequence[Cell]
    total: int
    worst: Cell | None


def build_confusion(counts: ConfusionCounts, mistakes: Sequence[Mistake]) -> Confusion:
    """Lays out the confusion counts; a cell opens if `mistakes` has one of its pair."""
    support = counts.rows_by_true
    true, _, wrong = counts.mistakes()
    highest = float((wrong / support[true]).max(initial=0.0))
    shown_pairs = {mistake.pair for mistake in mistakes}

    def cell(true: int, predicted: int) -> Cell:
        count = counts.count(true, predicted)
        fraction = count / max(int(support[true]), 1)
        return Cell(
            true=true,
            predicted=predicted,
            count=count,
            fraction=fraction,
            heat=0 if true == predicted else _heat(fraction, highest),
            opens=(true, predicted) in shown_pairs,
        )

    worst = [cell(*pair) for pair in worst_pairs(counts)]
    classes, small = range(counts.num_classes), counts.num_classes <= MAX_MATRIX_CLASSES
    return Confusion(
        matrix=[[cell(true, predicted) for predicted in classes] for true in classes] if small else (),
        pairs=() if small else worst,
        total=int(wrong.sum()),
        worst=worst[0] if worst else None,
    )


def worst_pairs(counts: ConfusionCounts) -> list[Pair]:
    """Returns the `WORST_PAIRS` most frequent pairs of a true and another predicted class, most frequent first.

    >>> worst_pairs(ConfusionCounts.from_matrix([[5, 2], [3, 5]]))
    [(1, 0), (0, 1)]
    """
    true, predicted, wrong = counts.mistakes()
    order = np.argsort(-wrong, kind="stable")[:WORST_PAIRS]
    return list(zip(true[order].tolist(), predicted[order].tolist(), strict=True))


def build_mistake_sheet(
    mistakes: Sequence[Mistake], images: Mapping[int, Pixels], max_bytes: int = MAX_SHEET_BYTES
) -> Sheet | None:
    """Packs the images of the mistakes of all pairs into one picture of at most `max_bytes`; None without any."""
    known = {mistake.id: images[mistake.id] for mistake in mistakes if mistake.id in images}
    return build_sheet(known, max_bytes) if known else None


def mistakes_json(
    mistakes: Sequence[Mistake],
    counts: ConfusionCounts,
    class_names: Sequence[str],
    sheet: Sheet | None,
) -> dict[str, Any]:
    """Returns the mistakes as JSON values for the script of the page.

    A pair has its count, and per shown mistake: the place on the sheet (null without an image), the id as text (a
    script's number holds 53 bits, an id 63), the probability of the predicted class and that of the true class (null
    where they are not known). With a sheet, mistakes without a place on it are left out. The names are those of the
    classes in these pairs, by the class's index.
    """
    by_pair: dict[Pair, list[list[float | str | None]]] = defaultdict(list)
    for each in mistakes:
        place = sheet.places.get(each.id) if sheet else None
        if sheet is None or place is not None:
            known = (each.probability, each.true_probability)
            rounded = [None if value is None else round(value, 4) for value in known]
            by_pair[each.pair].append([place, str(each.id), *rounded])
    size = (
        {"columns": sheet.columns, "width": sheet.width, "height": sheet.height, "photo": sheet.is_photo}
        if sheet
        else None
    )
    return {
        "names": {
            index: class_names[index] for index in sorted({label for pair in by_pair for label in pair})
        },
        "sheet": size,
        "pairs": {
            f"{true}-{predicted}": {"count": counts.count(true, predicted), "rows": rows}
            for (true, predicted), rows in sorted(by_pair.items())
        },
    }


def _heat(fraction: float, highest: float) -> int:
    """Returns the shade of a fraction, by its square root: rare mistakes stay visible beside frequent ones."""
    return 0 if not fraction else max(1, int(np.ceil(HEAT_LEVELS * np.sqrt(fraction / highest) - 1e-9)))

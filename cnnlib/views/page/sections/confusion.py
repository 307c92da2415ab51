"""Confusion counts and mistakes in; the heat map, or the worst pairs, and what each cell opens out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnlib.views.page.images import Pixels, Sheet, build_sheet
from cnnlib.views.page.sections.mistakes import PER_PAIR, Mistake, Pair

MAX_MATRIX_CLASSES = 30
"""With more classes than these, a page lists the worst pairs in place of the whole confusion matrix."""
WORST_PAIRS = 40
"""How many pairs that list has."""
HEAT_LEVELS = 8
"""Shades of the heat map; 0 is no shade."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """How often one class was taken for another.

    Attributes:
        share: of the true class's rows, 0..1.
        heat: shade in 0..`HEAT_LEVELS`; 0 on the diagonal and for pairs that never happened.
        opens: whether there is something behind it.
    """

    true: int
    predicted: int
    count: int
    fraction: float
    heat: int
    opens: bool

    @property
    def key(self) -> str:
        """Its name in what `mistakes_document` gives."""
        return f"{self.true}-{self.predicted}"

    @property
    def right(self) -> bool:
        """On the diagonal."""
        return self.true == self.predicted


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """The heat map as rows of cells, or, of many classes, the worst pairs alone.

    Attributes:
        matrix: a row of cells per true class; empty for many classes.
        pairs: pairs, most frequent first; empty where there is a matrix.
        total: mistakes in all.
    """

    matrix: Sequence[Sequence[Cell]]
    pairs: Sequence[Cell]
    total: int
    worst: Cell | None


def build_confusion(counts: npt.NDArray[np.int64], mistakes: Sequence[Mistake]) -> Confusion:
    """Lays out the confusion counts; a pair opens where `mistakes` has one of it."""
    support = counts.sum(axis=1)
    shares = counts / np.maximum(support, 1)[:, None]
    highest = float(np.where(np.eye(len(counts), dtype=bool), 0, shares).max(initial=0.0))
    opening = {mistake.pair for mistake in mistakes}

    def cell(true: int, predicted: int) -> Cell:
        count, fraction = int(counts[true, predicted]), float(shares[true, predicted])
        return Cell(
            true=true,
            predicted=predicted,
            count=count,
            fraction=fraction,
            heat=0 if true == predicted else _heat(fraction, highest),
            opens=(true, predicted) in opening,
        )

    worst = [cell(*pair) for pair in worst_pairs(counts)]
    classes, small = range(len(counts)), len(counts) <= MAX_MATRIX_CLASSES
    return Confusion(
        matrix=[[cell(true, predicted) for predicted in classes] for true in classes] if small else (),
        pairs=() if small else worst,
        total=int(counts.sum() - np.trace(counts)),
        worst=worst[0] if worst else None,
    )


def worst_pairs(counts: npt.NDArray[np.int64], limit: int = WORST_PAIRS) -> list[Pair]:
    """The pairs of a true and another predicted class that happened most often, falling, at least once.

    >>> worst_pairs(np.array([[5, 2], [3, 5]]))
    [(1, 0), (0, 1)]
    """
    mistaken = counts.copy()
    np.fill_diagonal(mistaken, 0)
    order = np.argsort(-mistaken, axis=None, kind="stable")[:limit]
    pairs = [divmod(int(place), len(counts)) for place in order]
    return [pair for pair in pairs if mistaken[pair]]


def build_mistake_sheet(mistakes: Sequence[Mistake], images: Mapping[int, Pixels]) -> Sheet | None:
    """The images of the mistakes that pairs open, as one picture; None without any."""
    known = {mistake.id: images[mistake.id] for mistake in mistakes if mistake.id in images}
    return build_sheet(known) if known else None


def mistakes_document(
    mistakes: Sequence[Mistake],
    counts: npt.NDArray[np.int64],
    class_names: Sequence[str],
    sheet: Sheet | None,
) -> dict[str, Any]:
    """What the script of the page knows of the mistakes, as JSON values.

    Of each pair: how often it happened, and of those shown the place on the sheet (null: no image), id, probability
    of the predicted class and of the true class. With a sheet, mistakes that found no place on it are left out.
    """
    by_pair: dict[Pair, list[list[float | int | None]]] = defaultdict(list)
    for each in mistakes:
        place = sheet.places.get(each.id) if sheet else None
        if sheet is None or place is not None:
            truth = None if each.truth is None else round(each.truth, 4)
            by_pair[each.pair].append([place, each.id, round(each.probability, 4), truth])
    size = {"columns": sheet.columns, "width": sheet.width, "height": sheet.height} if sheet else None
    return {
        "names": list(class_names),
        "most": PER_PAIR,
        "sheet": size,
        "pairs": {
            f"{true}-{predicted}": {"count": int(counts[true, predicted]), "rows": rows}
            for (true, predicted), rows in sorted(by_pair.items())
        },
    }


def _heat(fraction: float, highest: float) -> int:
    """The shade of a share: by its square root, so that rare mistakes are still seen beside frequent ones."""
    return 0 if not fraction else max(1, int(np.ceil(HEAT_LEVELS * np.sqrt(fraction / highest) - 1e-9)))

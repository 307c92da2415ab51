"""The classes of a checkpoint and those of a data set in, which output of the model counts for which class out."""

from __future__ import annotations

from collections.abc import Sequence

from cnnlib.errors import ConfigError, ModelError, nearest

_MAX_NAMES = 20  # in a message


def map_classes(
    theirs: Sequence[str], ours: Sequence[str], entries: Sequence[str], name: str
) -> tuple[int, ...] | None:
    """Returns the index of the model's output for every class of the data; None if the classes are the same.

    Args:
        theirs: the classes that the model was trained on, in the order of its outputs.
        ours: the classes of the data.
        entries: `THEIRS=OURS` for classes whose names differ, see `EvaluateConfig.class_map`. Without one, the classes
            must be the same, in any order. With one, the model may have more classes than the data.
        name: what messages call the model.

    Raises:
        ModelError: a class differs.
        ConfigError: an entry names a class that does not exist, or two classes of the data would share an output.

    >>> map_classes(["cat", "dog"], ["dog", "cat"], [], "m")
    (1, 0)
    >>> map_classes(["cat", "dog", "cow"], ["Hund", "cat"], ["dog=Hund"], "m")
    (1, 0)
    """
    if not entries and tuple(theirs) == tuple(ours):
        return None
    pairs = [_split(entry, theirs, ours) for entry in entries]
    renamed = {our: their for their, our in pairs}
    if len(renamed) < len(pairs):
        raise ConfigError(
            f"class_map names a class of the data twice. Received {' '.join(entries)}. Give each class once."
        )
    wanted = [renamed.get(our, our) for our in ours]
    if not entries:
        _check_same(theirs, ours, name)
    places = {their: index for index, their in reversed(list(enumerate(theirs)))}
    for our, their in zip(ours, wanted, strict=True):
        if their not in places:
            raise ModelError(
                f"{name} was not trained on the class {our!r} of the data. Its classes: {_enumerate(theirs)}. "
                "Give --class-map THEIRS=OURS for each class with another name."
            )
    _check_one_to_one(wanted, ours, entries)
    columns = tuple(places[their] for their in wanted)
    return None if columns == tuple(range(len(theirs))) else columns


def select_entries(theirs: Sequence[str], ours: Sequence[str], entries: Sequence[str]) -> tuple[str, ...]:
    """Returns the entries of a map for many models that name a class of this one. See `map_classes` for the rest.

    Raises:
        ConfigError: an entry names no class of the data, so it fits no model.

    >>> select_entries(["cat", "dog"], ["cat", "Hund"], ["dog=Hund", "Katze=cat"])
    ('dog=Hund',)
    """
    for entry in entries:
        if not any(our in ours for _, our in _split_everywhere(entry)):
            raise _unknown(entry, entry.partition("=")[2], "data", ours)
    return tuple(entry for entry in entries if _find_split(entry, theirs, ours))


def _split(entry: str, theirs: Sequence[str], ours: Sequence[str]) -> tuple[str, str]:
    if found := _find_split(entry, theirs, ours):
        return found
    their, _, our = entry.partition("=")
    if their not in theirs:
        raise _unknown(entry, their, "checkpoint", theirs)
    raise _unknown(entry, our, "data", ours)


def _find_split(entry: str, theirs: Sequence[str], ours: Sequence[str]) -> tuple[str, str] | None:
    """Splits an entry at the sign that leaves a class on both sides, because a name may hold one, too."""
    for their, our in _split_everywhere(entry):
        if their in theirs and our in ours:
            return their, our
    return None


def _split_everywhere(entry: str) -> list[tuple[str, str]]:
    parts = entry.split("=")
    return [("=".join(parts[:index]), "=".join(parts[index:])) for index in range(1, len(parts))]


def _unknown(entry: str, name: str, side: str, known: Sequence[str]) -> ConfigError:
    return ConfigError(f"class_map: {entry!r} names no class of the {side}: {name!r}. {nearest(name, known)}")


def _check_one_to_one(wanted: Sequence[str], ours: Sequence[str], entries: Sequence[str]) -> None:
    """Checks that every class of the data has an output of its own: probabilities would not add up to 1 otherwise."""
    first: dict[str, int] = {}
    for index, their in enumerate(wanted):
        if first.setdefault(their, index) != index:
            raise ConfigError(
                f"class_map: {ours[first[their]]!r} and {ours[index]!r} of the data would both be the class "
                f"{their!r} of the checkpoint. Received {' '.join(entries)}. Give each its own class, with "
                "--class-map THEIRS=OURS."
            )


def _enumerate(names: Sequence[str]) -> str:
    """Returns names in a message; of many, only the first ones.

    >>> _enumerate([f"c{index}" for index in range(1000)])
    'c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, … 1,000 in all'
    """
    if len(names) <= _MAX_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[: _MAX_NAMES // 2])}, … {len(names):,} in all"


def _check_same(theirs: Sequence[str], ours: Sequence[str], name: str) -> None:
    known, wanted = set(theirs), set(ours)
    if known == wanted:
        return
    if len(theirs) != len(ours):
        raise ModelError(
            f"{name} was trained on other classes. Received {len(ours)} classes in the data ({_enumerate(ours)}), "
            f"expected the {len(theirs)} of the checkpoint ({_enumerate(theirs)}). If the data are meant, give "
            "--class-map THEIRS=OURS for the classes that belong together."
        )
    index, their, our = next(
        (index, their, our)
        for index, (their, our) in enumerate(zip(theirs, ours, strict=True))
        if our not in known or their not in wanted
    )
    raise ModelError(
        f"{name} was trained on other classes. Class {index} is {our!r} in the data, and {their!r} in the checkpoint. "
        f"Evaluate it on data of its own classes or, if both are the same class, give --class-map {their}={our}."
    )

"""Lists a folder of images with one folder per class, at any depth below it; a level of splits above is understood."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from cnnlib.dataset.class_names import compose
from cnnlib.dataset.decode import EXTENSIONS, ImageRules
from cnnlib.dataset.streamed import Candidate, Candidates, StreamedSource
from cnnlib.errors import DatasetError, NotFoundError
from cnnlib.log import log_event
from cnnlib.sources.columns import say_what_is_odd
from cnnlib.sources.image_files import (
    DEFAULT_SPLITS,
    SPLIT_NAMES,
    ImageReader,
    check_names,
    counted,
    describe_rules,
    list_versions,
    parse_fractions,
    select_images,
)
from cnnlib.sources.numbering import check_split_numbering

_WORD = re.compile("[a-z]+")
_SPLIT_WORDS = frozenset((*SPLIT_NAMES, "dev", "eval", "evaluation", "holdout"))
_SHOWN = 5


def load_folders(
    directory_uri: str,
    rules: ImageRules,
    *,
    class_names: Sequence[str] = (),
    splits: Sequence[str] = (),
    max_images: int | None = None,
) -> StreamedSource:
    """Lists the images below a folder. Reads none of them.

    Args:
        directory_uri: the folder: one folder per class, or train/, val/ and test/ with these.
        rules: what every image becomes.
        class_names: the classes in the order of their indexes; empty: the names of the folders, sorted.
        splits: NAME=FRACTION of each split, where the folder has no level of splits; empty: `DEFAULT_SPLITS`.
        max_images: the most images of each class and split; None: all.

    Raises:
        NotFoundError: there is no such folder, or it is empty.
        DatasetError: no image lies in a folder of a class, the classes seem to be a level deeper, or the splits count
            them from different numbers.
        ConfigError: class names or splits cannot work.
    """
    versions = list_versions(directory_uri, hidden=True)
    if not versions:
        raise NotFoundError(
            f"{directory_uri} does not exist or is empty. Expected a folder with one folder per class."
        )
    paths, skipped = select_images(versions)
    has_splits = _find_level(directory_uri, paths, class_names)
    if has_splits and splits:
        tops = sorted({path.split("/")[0] for path in paths if "/" in path})
        raise DatasetError(
            f"{directory_uri} has the splits {', '.join(tops)} of its own. Leave out --splits, or give one of these "
            "folders."
        )
    level = 1 if has_splits else 0
    inside = [path for path in paths if path.count("/") > level]
    if len(inside) < len(paths):
        lost = next(path for path in paths if path.count("/") <= level)
        note = f"{len(paths) - len(inside)} images lie in no folder of a class, such as {lost}"
        if not inside:
            raise DatasetError(f"{directory_uri}: {note}. Expected {directory_uri}/CLASS/IMAGE.")
        log_event("images", note=f"left out: {note}")
    if not inside:
        raise DatasetError(
            f"{directory_uri} has no image in a folder of a class. Received {counted(skipped) or 'no file'}, expected "
            f"{directory_uri}/CLASS/IMAGE with one of the endings {', '.join(sorted(EXTENSIONS))}."
        )
    if not has_splits and not class_names:
        _check_level_below(directory_uri, inside)
    found = sorted({_folder(path, level) for path in inside})
    _say_what_is_odd(versions, found, level)
    names = check_names(class_names, found, directory_uri)
    labels = {compose(name): label for label, name in enumerate(names)}
    candidates = Candidates(
        Candidate(
            key=path,
            label=labels[_folder(path, level)],
            split=SPLIT_NAMES[path.split("/")[0].lower()] if has_splits else None,
            version=versions[path],
        )
        for path in inside
    )
    if has_splits and not class_names:
        check_split_numbering(
            names, [each.label for each in candidates], [each.split for each in candidates], directory_uri
        )
    return StreamedSource(
        class_names=names,
        candidates=limit(candidates, max_images),
        read=ImageReader(folder=directory_uri, rules=rules),
        fractions={} if has_splits else parse_fractions(splits or DEFAULT_SPLITS),
        settings=describe_rules(rules),
        description=f"image folders of {directory_uri} ({describe_rules(rules)})",
    )


def _folder(path: str, level: int) -> str:
    """Returns the folder of a path at a level, under the one name that looks like it."""
    return compose(path.split("/")[level])


def _find_level(uri: str, paths: Sequence[str], class_names: Sequence[str]) -> bool:
    """Returns whether the folders of the classes lie below folders of splits.

    Raises:
        DatasetError: some folders look like splits, and others do not.
    """
    tops = {path.split("/")[0] for path in paths if "/" in path}
    # A class may be called train or test, too; then its images lie directly in the folder.
    split_like = {
        path.split("/")[0]
        for path in paths
        if path.count("/") > 1 and path.split("/")[0].lower() in SPLIT_NAMES
    }
    if not split_like or set(map(compose, tops)) <= set(map(compose, class_names)):
        return False
    others = sorted(top for top in tops - split_like if top.lower() not in SPLIT_NAMES)
    if others:
        raise DatasetError(
            f"{uri} has the folders {', '.join(sorted(split_like))}, which look like splits, and "
            f"{', '.join(others)}, which do not. Expected either splits with the folders of the classes in them, or "
            "folders of classes alone: move the others, or name all classes with --class-names."
        )
    return True


def _check_level_below(uri: str, paths: Sequence[str]) -> None:
    """Checks that the folders of the classes are not one level deeper.

    Raises:
        DatasetError: there is one folder only, which holds others, or all look like splits, which hold others.
    """
    below: defaultdict[str, set[str]] = defaultdict(set)
    for path in paths:
        top, second = path.split("/")[:2] if path.count("/") > 1 else (path.split("/")[0], "")
        below[top].add(second)
    if any("" in folders for folders in below.values()):
        return  # images lie directly in the folder of a class
    tops = sorted(below)
    first = ", ".join(sorted(below[tops[0]])[:_SHOWN])
    if len(tops) == 1 and len(below[tops[0]]) > 1:
        raise DatasetError(
            f"{uri} has one folder, {tops[0]}, with the folders {first} in it. Expected one folder per class: give "
            f"{uri}/{tops[0]}."
        )
    if len(tops) > 1 and all(_SPLIT_WORDS & set(_WORD.findall(top.lower())) for top in tops):
        raise DatasetError(
            f"{uri} has the folders {', '.join(tops)}, which look like splits, with {first} in them. Call them train, "
            "val and test, or, if they are the classes, name all of them with --class-names."
        )
    common = set.intersection(*below.values())
    if len(tops) > 1 and len(common) > 1:
        log_event(
            "labels",
            note=f"the classes are {', '.join(tops[:_SHOWN])}, each with the folders "
            f"{', '.join(sorted(common)[:_SHOWN])}: these are no classes",
        )


def _say_what_is_odd(paths: Iterable[str], classes: Sequence[str], level: int) -> None:
    """Logs folders without an image, and odd names of classes."""
    folders = {_folder(path, level) for path in paths if path.count("/") > level}
    if empty := sorted(folders - set(classes)):
        log_event("labels", note=f"no class, because no image lies in them: {', '.join(empty)}")
    say_what_is_odd(classes)


def limit(candidates: Candidates, most: int | None) -> Candidates:
    """Returns at most so many candidates of each class and split, the first ones by name."""
    if most is None:
        return candidates
    counts: Counter[tuple[int | None, str | None]] = Counter()
    kept = Candidates()
    for candidate in sorted(candidates, key=lambda each: each.key):
        counts[candidate.label, candidate.split] += 1
        if counts[candidate.label, candidate.split] <= most:
            kept.append(candidate)
    return kept

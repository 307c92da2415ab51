"""Lists a folder of images with one folder per class, at any depth below it; a level of splits above is understood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cnnlib.dataset.streamed import Candidate, StreamedSource
from cnnlib.errors import DatasetError, NotFoundError
from cnnlib.log import log_event
from cnnlib.sources.decode import EXTENSIONS, ImageRules
from cnnlib.sources.image_files import (
    DEFAULT_SPLITS,
    ImageReader,
    check_names,
    counted,
    describe_rules,
    list_versions,
    parse_fractions,
)

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_IGNORED = frozenset(("thumbs.db", "desktop.ini", ".ds_store"))


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
        DatasetError: no image lies in a folder of a class.
        ConfigError: class names or splits cannot work.
    """
    versions = list_versions(directory_uri)
    if not versions:
        raise NotFoundError(
            f"{directory_uri} does not exist or is empty. Expected a folder with one folder per class."
        )
    paths, skipped = _select_images(list(versions))
    if skipped:
        log_event("images", note=f"left out, because they are no image files: {counted(skipped)}")
    tops = {path.split("/")[0] for path in paths if "/" in path}
    # Classes may be called train and test, too; then their images lie directly in these folders.
    has_splits = all(top.lower() in _SPLITS for top in tops) and all(path.count("/") > 1 for path in paths)
    if has_splits and splits:
        raise DatasetError(
            f"{directory_uri} has the splits {', '.join(sorted(tops))} of its own. Leave out --splits, or give one of "
            "these folders."
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
    names = check_names(class_names, sorted({path.split("/")[level] for path in inside}), directory_uri)
    labels = {name: label for label, name in enumerate(names)}
    candidates = [
        Candidate(
            key=path,
            label=labels[path.split("/")[level]],
            split=_SPLITS[path.split("/")[0].lower()] if has_splits else None,
            version=versions[path],
        )
        for path in inside
    ]
    return StreamedSource(
        class_names=names,
        candidates=limit(candidates, max_images),
        read=ImageReader(folder=directory_uri, rules=rules),
        fractions={} if has_splits else parse_fractions(splits or DEFAULT_SPLITS),
        settings=describe_rules(rules),
        description=f"image folders of {directory_uri}",
    )


def limit(candidates: Sequence[Candidate], most: int | None) -> list[Candidate]:
    """Returns at most so many candidates of each class and split, the first ones by name."""
    if most is None:
        return list(candidates)
    counts: Counter[tuple[int | None, str | None]] = Counter()
    kept = []
    for candidate in sorted(candidates, key=lambda each: each.key):
        counts[candidate.label, candidate.split] += 1
        if counts[candidate.label, candidate.split] <= most:
            kept.append(candidate)
    return kept


def _select_images(paths: Sequence[str]) -> tuple[list[str], Counter[str]]:
    """Returns the paths of image files, and how many others there are of each kind."""
    images, others = [], Counter[str]()
    for path in paths:
        name = path.rpartition("/")[2]
        ending = f".{name.rpartition('.')[2].lower()}" if "." in name else "without an ending"
        if any(part.startswith(".") for part in path.split("/")) or name.lower() in _IGNORED:
            others["hidden or of the system"] += 1
        elif ending in EXTENSIONS:
            images.append(path)
        else:
            others[ending] += 1
    return images, others

"""Shows the progress of a preparation: a live bar on a terminal, else a log line at most every 10 s."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol

from tqdm import tqdm

from cnnlib.log import log_event

_LINE_INTERVAL_S = 10.0


class PrepareProgress(Protocol):
    """Counts the images that are done."""

    def update(self, images: int) -> None:
        """Counts images that have just been done."""

    def close(self) -> None:
        """Ends the progress."""


def build_progress(num_images: int, *, live: bool) -> PrepareProgress:
    """Builds the progress of a preparation.

    Args:
        live: True if a person watches stderr on a terminal.
    """
    return _LiveBar(num_images) if live else _LogLines(num_images)


class _LiveBar:
    def __init__(self, num_images: int) -> None:
        self._bar = tqdm(total=num_images, desc="prepare", unit=" images", file=sys.stderr, leave=False)

    def update(self, images: int) -> None:
        self._bar.update(images)

    def close(self) -> None:
        self._bar.close()


class _LogLines:
    def __init__(self, num_images: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._num_images, self._clock = num_images, clock
        self._started = self._last = clock()
        self._images = 0

    def update(self, images: int) -> None:
        self._images += images
        now = self._clock()
        if now - self._last < _LINE_INTERVAL_S:
            return
        self._last = now
        rate = self._images / (now - self._started)
        left_s = (self._num_images - self._images) / rate
        log_event("prepare", images=self._images, of=self._num_images, images_per_s=rate, left_s=left_s)

    def close(self) -> None:
        pass

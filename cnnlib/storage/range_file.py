"""Reads an object as a file, range by range: for libraries that expect a file, and objects larger than memory."""

from __future__ import annotations

import io
import os

from cnnlib.storage import files

_BUFFER_BYTES = 2**20


class _RangeFile(io.RawIOBase):
    def __init__(self, uri: str, num_bytes: int) -> None:
        super().__init__()
        self._uri, self._num_bytes, self._place = uri, num_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._num_bytes}[whence]
        self._place = base + offset
        return self._place

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        count = min(len(buffer), max(0, self._num_bytes - self._place))
        data = files.read_range(self._uri, self._place, count)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def open_range_file(uri: str, num_bytes: int, buffer_bytes: int = _BUFFER_BYTES) -> io.BufferedReader:
    """Returns an object as a file that can be read and sought in; nothing is read before it is asked for.

    Args:
        num_bytes: the size of the object.
        buffer_bytes: how much one request reads at least.
    """
    return io.BufferedReader(_RangeFile(uri, num_bytes), buffer_bytes)

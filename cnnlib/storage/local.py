"""Implements `Place` for local files: atomic writes through a temporary file, and clear errors."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cnnlib.errors import AccessError, CnnlibError, InputError, NotFoundError, StorageError
from cnnlib.storage.durable import delete_leftovers, sync_file, sync_folder, temporary_name, write_durably
from cnnlib.storage.no_links import rename_if_absent
from cnnlib.storage.place import StoredObject

_MAX_ATTEMPTS = 5
# What file systems without hard links answer: FUSE, SMB, exFAT, folders shared with a virtual machine.
_NO_HARD_LINKS = frozenset(
    {
        errno.EPERM,
        errno.ENOTSUP,
        errno.EOPNOTSUPP,
        errno.ENOSYS,
        errno.EXDEV,
        errno.EMLINK,
        errno.EINVAL,
        errno.EIO,
    }
)


@dataclass(frozen=True)
class LocalPlace:
    """A path on this machine. Writing a file is not atomic, so every write goes through a temporary file beside it."""

    path: Path

    def read_bytes(self) -> bytes:
        self._check_file()
        return self.path.read_bytes()

    def read_range(self, first: int, num_bytes: int) -> bytes:
        self._check_file()
        with self.path.open("rb", buffering=0) as file:
            file.seek(first)
            found = bytearray()
            while len(found) < num_bytes and (some := file.read(num_bytes - len(found))):
                found += some
            return bytes(found)

    def find_size(self) -> int | None:
        status = self._find_status()
        return None if status is None else status.st_size

    def find_version(self) -> str | None:
        status = self._find_status()
        return None if status is None else _version(status)

    def write_bytes(self, data: bytes) -> None:
        with self._temporary_file() as temporary:
            write_durably(temporary, data)
            temporary.replace(self.path)
            sync_folder(self.path.parent)

    def create_bytes(self, data: bytes) -> bool:
        with self._temporary_file() as temporary:
            write_durably(temporary, data)
            created = self._take_name(temporary)
            sync_folder(self.path.parent)
            return created

    def scan_objects(self, *, hidden: bool = False) -> Iterator[StoredObject]:
        yield from _scan_objects(self.path, above=frozenset(), hidden=hidden)

    def scan_files(self) -> Iterator[str]:
        return (entry.name for entry in _scan(self.path) if not entry.is_dir())

    def scan_folders(self) -> Iterator[str]:
        return (entry.name for entry in _scan(self.path) if entry.is_dir())

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)

    def download(self, path: Path) -> None:
        self._check_file()
        shutil.copyfile(self.path, path)

    def upload(self, path: Path) -> None:
        with self._temporary_file() as temporary:
            shutil.copyfile(path, temporary)
            sync_file(temporary)
            temporary.replace(self.path)
            sync_folder(self.path.parent)

    def child(self, name: str) -> LocalPlace:
        return LocalPlace(self.path / name)

    def delete_leftovers(self) -> None:
        delete_leftovers(self.path)

    @contextmanager
    def restore_folders(self) -> Iterator[None]:
        absent = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            yield
        finally:
            for folder in absent:
                # rmdir fails for a folder that was never created, and for one that another writer uses by now.
                with suppress(OSError):
                    folder.rmdir()

    def _check_file(self) -> None:
        """Checks that this is no pipe and no device: reading one may wait for ever."""
        mode = self.path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InputError(f"{self.path} is a pipe, a socket or a device. Expected a file.")

    def _take_name(self, temporary: Path) -> bool:
        try:
            # A link, because unlike a rename it fails if the name is taken.
            self.path.hardlink_to(temporary)
        except FileExistsError:
            # On NFS, the answer to a link may be lost, and the kernel then asks for it a second time.
            with suppress(FileNotFoundError):
                return self.path.samefile(temporary)
            return False
        except OSError as err:
            if err.errno not in _NO_HARD_LINKS:
                raise
            return rename_if_absent(temporary, self.path)
        return True

    def _find_status(self) -> os.stat_result | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status if stat.S_ISREG(status.st_mode) else None

    @contextmanager
    def _temporary_file(self) -> Iterator[Path]:
        """Yields a hidden path in the same folder, and deletes what is left under it."""
        temporary = self.path.with_name(temporary_name())
        try:
            self._create_with_folders(temporary)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _create_with_folders(self, temporary: Path) -> None:
        # Between any two calls, the writable check of another job may remove the folder as empty. If that happens
        # inside `mkdir`, it finds neither that it may make the folder nor that there is one.
        for attempt in range(_MAX_ATTEMPTS):
            absent = [folder for folder in self.path.parents if not folder.exists()]
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                temporary.touch(exist_ok=False)
            except (FileNotFoundError, FileExistsError):
                if attempt == _MAX_ATTEMPTS - 1:
                    raise
            else:
                for folder in absent:
                    sync_folder(folder.parent)
                return


@contextmanager
def local_errors(path: str) -> Iterator[None]:
    """Translates an OSError into one of `cnnlib.errors` that names the path."""
    try:
        yield
    except OSError as err:
        raise _explain_os_error(path, err) from err


def _explain_os_error(path: str, err: OSError) -> CnnlibError:
    if isinstance(err, FileNotFoundError):
        return NotFoundError(f"There is nothing at {err.filename}. Expected a file. Check the path.")
    if isinstance(err, PermissionError) or err.errno == errno.EROFS:
        return AccessError(
            f"Not permitted at {path}: {err}. Expected a path that this user (uid {os.geteuid()}) may use. "
            "Check the owner and mode of the file and its folders, and how the disk is mounted."
        )
    if isinstance(err, (IsADirectoryError, NotADirectoryError, FileExistsError)):
        return InputError(
            f"A file and a folder are mixed up at {path}: {err}. Expected a file where a file is read or "
            "written, and folders above it. Check the path."
        )
    return StorageError(f"The file system failed at {path}: {err}. Check the disk's health and free space.")


def _scan_objects(folder: Path, above: frozenset[str], *, hidden: bool) -> Iterator[StoredObject]:
    """Yields the files below a folder. A link that leads to nothing is listed as an empty file, which cannot be read.

    Args:
        above: the real paths of the folders above; a link to one of them is not followed, because it has no end.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    for entry in _scan(folder, hidden=hidden):
        try:
            is_folder, status = entry.is_dir(), entry.stat()
        except OSError as err:
            if not entry.is_symlink() or err.errno not in (errno.ENOENT, errno.ELOOP):
                raise
            yield StoredObject(entry.path, 0)
            continue
        if is_folder:
            yield from _scan_objects(Path(entry.path), above | {real}, hidden=hidden)
        elif stat.S_ISREG(status.st_mode):  # a pipe, a socket or a device is no object
            yield StoredObject(entry.path, status.st_size, _version(status))


def _version(status: os.stat_result) -> str:
    return str(status.st_mtime_ns)


def _scan(folder: Path, *, hidden: bool = False) -> list[os.DirEntry[str]]:
    """Lists a folder's visible entries, or all; an empty list for a folder that does not exist."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if hidden or not entry.name.startswith(".")]
    except FileNotFoundError:
        return []

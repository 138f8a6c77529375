"""One conversion at a time into a local store: a lock beside it, which ends with its process."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xarray_tiffstack.ome_zarr.pixels import Target


@contextmanager
def locked(target: Target) -> Iterator[None]:
    """Keep other conversions away from a local store, while this one runs.

    Raises
    ------
    BlockingIOError
        Another one is running.
    """
    if not isinstance(target, Path):
        yield
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = not target.is_dir() or os.access(target.parent, os.W_OK)
    path = target.with_name(f".{target.name}.lock") if beside else target / ".lock"
    number = _open_lock(path, target)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows deletes no file that is open elsewhere
            if sys.platform != "win32":
                path.unlink()
        os.close(number)
        with suppress(OSError):
            if sys.platform == "win32":
                path.unlink()


def _open_lock(path: Path, target: Path) -> int:
    """Lock a file; one that was deleted by the process that held it is opened again."""
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(number)
        except (BlockingIOError, PermissionError) as error:
            who = os.read(number, 200).decode(errors="replace")
            os.close(number)
            raise BlockingIOError(
                f"another conversion writes to {target} ({who.strip() or 'just begun'}): wait "
                "until it ends, or write to another store"
            ) from error
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(number), os.stat(path)):
                os.ftruncate(number, 0)
                os.write(number, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return number
        os.close(number)


def _lock(number: int) -> None:
    """Lock an open file for this process, where the file system can."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(number, 2**30, os.SEEK_SET)  # beyond what others shall be able to read
        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        os.lseek(number, 0, os.SEEK_SET)
        return
    import errno
    import fcntl

    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise

"""Who may write to a store: one conversion alone, or parts of one at the same time.

Of a local store that is a lock on a file beside it, which ends with its process; see `lease` for
one in the cloud. A conversion alone holds it for
itself. Parts share it; who of them finds nobody else holds it for itself until the store is begun.
Parts need no lock among each other: it keeps others away, and it tells when nobody else is there,
so that what killed processes left may be deleted.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xarray_tiffstack.ome_zarr.lease import has_lease, leased

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xarray_tiffstack.ome_zarr.lease import Lease
    from xarray_tiffstack.ome_zarr.pixels import Target

PART = "a part, "  # how the text of a lock begins that a part holds
PATIENCE = 600.0  # seconds that a part waits for another one to begin the store
LOOK = 0.1  # seconds between looks at a lock
SURE = 5  # looks in a row that must see the same other conversion: the text may be an old one
MANY = 2**20  # bytes that a conversion alone locks on Windows; a part locks one of them


@dataclass
class Lock:
    """A lock that is held."""

    number: int
    """The open file; -1 where there is nothing to lock."""
    alone: bool
    """Whether nobody else holds it."""
    works: bool = True
    """Whether the file system has locks at all."""

    def share(self) -> None:
        """Let other parts in."""
        if self.alone and self.works:
            _try(self.number, shared=True, held=False)
        self.alone = False

    def last(self) -> bool:
        """Whether nobody else holds it any more; it is held alone then, or else not at all.

        To be asked when nothing more is to be written.
        """
        if not self.alone and self.works:
            self.alone = _try(self.number, shared=False, held=True) is True
        return self.alone

    def require(self, look: bool = False) -> None:
        """Go on: nobody takes over a lock that is held."""


@contextmanager
def locked(target: Target, shared: bool = False) -> Iterator[Lock | Lease]:
    """Keep other conversions away from a store, while this one runs.

    Parameters
    ----------
    target
        The store; one that zarr was given as an object has no lock.
    shared
        Whether this is a part, beside which others of the same conversion may write. If it is
        given the lock alone, it has to begin the store, and to share the lock then.

    Raises
    ------
    BlockingIOError
        Another one is running.
    """
    if has_lease(target):
        with leased(str(target), shared, PATIENCE) as lease:
            yield lease
        return
    if not isinstance(target, Path):
        yield Lock(-1, alone=not shared, works=False)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = not target.is_dir() or os.access(target.parent, os.W_OK)
    path = target.with_name(f".{target.name}.lock") if beside else target / ".lock"
    lock = _open_lock(path, target, shared)
    try:
        yield lock
    finally:
        last = not lock.works or lock.last()
        with suppress(OSError):  # Windows deletes no file that is open elsewhere
            if last and sys.platform != "win32":
                path.unlink()
        os.close(lock.number)
        with suppress(OSError):
            if last and sys.platform == "win32":
                path.unlink()


def _open_lock(path: Path, target: Path, shared: bool) -> Lock:
    """Lock a file; one that was deleted by the process that held it is opened again."""
    deadline, seen = time.monotonic() + PATIENCE, [""]
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        alone = _try(number, shared=False)
        if alone is not False or (shared and _try(number, shared=True)):
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(number), os.stat(path)):
                    who = f"process {os.getpid()} on {socket.gethostname()}\n"
                    os.ftruncate(number, 0)
                    os.write(number, f"{PART if shared else ''}{who}".encode())
                    return Lock(number, alone is True or not shared, works=alone is not None)
            os.close(number)
            continue
        text = os.read(number, 200).decode(errors="replace").strip()
        os.close(number)
        seen = [*seen, text] if text == seen[-1] else [text]
        if shared and (text.startswith(PART) or len(seen) < SURE) and time.monotonic() < deadline:
            time.sleep(LOOK)
            continue
        raise BlockingIOError(
            f"another conversion writes to {target} ({text or 'just begun'}): wait until it ends, "
            "or write to another store"
        )


def _try(number: int, *, shared: bool, held: bool | None = None) -> bool | None:
    """Lock an open file for this process, alone or shared; None where the file system cannot.

    On Windows, which shares no lock, parts lock different bytes; `held` says that one is held
    already, and whether it is shared.
    """
    if sys.platform == "win32":
        import msvcrt

        if held is not None:
            _at(number, shared=held)
            msvcrt.locking(number, msvcrt.LK_UNLCK, 1 if held else MANY)
        _at(number, shared)
        try:
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1 if shared else MANY)
        except OSError:
            return False
        finally:
            os.lseek(number, 0, os.SEEK_SET)
        return True
    import errno
    import fcntl

    try:
        fcntl.flock(number, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
        return None
    return True


def _at(number: int, shared: bool) -> None:
    """Go to the bytes that are locked: beyond what others shall be able to read."""
    os.lseek(number, 2**30 + (os.getpid() % MANY if shared else 0), os.SEEK_SET)

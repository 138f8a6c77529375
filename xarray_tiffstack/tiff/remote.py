"""One open TIFF at a URL: what is read of it by the range, never all of it."""

from __future__ import annotations

import io
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from xarray_tiffstack.storage import Access, ChangedError, Remote, access_of, is_url
from xarray_tiffstack.tiff.file import File, Tiff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Result = TypeVar("Result")

_STEP = 1 << 23


class RemoteFile(Tiff, io.RawIOBase):
    """A TIFF at a URL; many of them, in any threads, may be of one object."""

    step = _STEP

    def __init__(self, url: str, access: Access) -> None:
        super().__init__()
        self.path = url
        self.remote = Remote.of(url, access)
        self.size, self.head = self.remote.size, self.remote.head
        self._identity = (url, access.identity, self.remote.state, self.head)
        self._position = 0
        self.begin()

    # --- a stream, as tifffile reads it

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read anywhere."""
        return True

    def tell(self) -> int:
        """Return the position in the file."""
        return self._position

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move the position in the file."""
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on."""
        rest = max(0, self.size - self._position)
        data = self.at(self._position, rest if size is None or size < 0 else min(size, rest))
        self._position += len(data)
        return data

    def readinto(self, target: Any, /) -> int:
        """Read on into some memory."""
        view = memoryview(target).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    # --- as this package reads it

    def at(self, offset: int, size: int) -> bytes:
        """Return the bytes at an offset; fewer where the file ends."""
        size = min(size, self.size - offset)
        if size <= 0 or offset < 0:
            return b""
        try:
            return self.remote.read(offset, offset + size)
        except OSError as error:
            self.failed = error
            raise

    def into(self, offset: int, target: np.ndarray) -> None:
        """Fill the contiguous bytes of `target` from an offset."""
        self.check(offset, target.nbytes)
        if target.nbytes:
            data = self.remote.pixels(offset, offset + target.nbytes)
            target.reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8)

    def prefetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Read ranges (offset, size) that will be asked for, many at once."""
        self.remote.prefetch(
            (offset, min(self.size, offset + size)) for offset, size in ranges if offset >= 0
        )

    def keep(self, offset: int, data: bytes) -> None:
        """Keep bytes that were read and will be asked for again."""
        self.remote.keep(offset, data)

    def several(self, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """Return the bytes of several ranges (offset, size); those that adjoin are one request."""
        return iter(self.remote.gather([(at, min(self.size, at + size)) for at, size in ranges]))

    def each(self, work: Callable[..., object], items: Sequence[tuple[Any, ...]]) -> None:
        """Do something with several parts, many at once."""
        self.remote.parts(lambda item: work(*item), items)


def with_file(
    path: str | os.PathLike[str],
    work: Callable[[Tiff], Result],
    access: Access | None = None,
    known: bool = False,
) -> Result:
    """Open a TIFF and do something with it.

    What changed since it was read before is read anew; what changes meanwhile is an error. Where
    all bytes were known already, the server is asked whether they are so still, unless `known`
    says that it was read just now.
    """
    path = os.fspath(path)
    if not is_url(path):
        with File(path) as file:
            return work(file)
    access = access or access_of(path)
    remote = RemoteFile(path, access)
    fresh, answers = remote.remote.fresh, remote.remote.answers
    try:
        try:
            return work(remote)
        finally:
            if not (fresh or known) and remote.remote.answers == answers:
                remote.remote.require()
    except ChangedError:
        remote.remote.drop()
        if fresh:
            raise
    return work(RemoteFile(path, access))


@contextmanager
def stream(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Give tifffile what it can open: a path, or the stream of a URL."""
    path = os.fspath(path)
    yield RemoteFile(path, access_of(path)) if is_url(path) else path

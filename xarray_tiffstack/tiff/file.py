"""The bytes of one open TIFF: those of a regular file, and none beyond its end.

Everything that reads a TIFF reads it from here, or from its sibling for URLs (`remote`).
"""

from __future__ import annotations

import io
import os
import stat
from struct import Struct, pack
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    import numpy as np


class Format(NamedTuple):
    """How numbers are packed in one of the four kinds of TIFF."""

    order: Literal["<", ">"]
    start: int  # where the offset of the first directory is
    length: Struct  # number of entries of a directory
    entry: Struct  # code, type, count, value or its offset
    link: Struct

    @property
    def endian(self) -> Literal["little", "big"]:
        """The order of bytes, as Python calls it."""
        return "little" if self.order == "<" else "big"


_ORDERS: tuple[tuple[bytes, Literal["<", ">"]], ...] = ((b"II", "<"), (b"MM", ">"))
_FORMATS = {
    mark + pack(order + "H", version): Format(order, start, *(Struct(order + s) for s in parts))
    for mark, order in _ORDERS
    for version, start, parts in ((42, 4, ("H", "HHI4s", "I")), (43, 8, ("Q", "HHQ8s", "Q")))
}


class Tiff:
    """What every open TIFF has, wherever its bytes are; equal to another as long as unchanged.

    Who inherits sets `path`, `size` and `head`, has the methods `at` and `into`, and is a stream
    for tifffile.
    """

    path: str
    size: int
    head: bytes
    format: Format
    step: int | None = None
    """Most bytes of pixels that are asked for at once; None of a disk, which takes any number."""
    failed: OSError | None = None
    """What went wrong when it was read, which tifffile may have passed over."""
    _identity: Hashable

    def __eq__(self, other: object) -> bool:
        """Whether both are the same file in the same state."""
        return isinstance(other, Tiff) and self._identity == other._identity

    def __hash__(self) -> int:
        """Hash the file and its state."""
        return hash(self._identity)

    def begin(self) -> None:
        """Find out which of the four kinds of TIFF it is; raise where it is none."""
        if len(self.head) < 16 or self.head[:4] not in _FORMATS:
            if not self.size:
                raise OSError(f"{self.path} is empty (0 bytes)")
            raise ValueError(f"{self.path} is not a TIFF: it begins with {self.head!r}")
        self.format = _FORMATS[self.head[:4]]
        if self.format.link.size == 8 and self.head[4:8] != pack(self.format.order + "HH", 8, 0):
            raise ValueError(f"{self.path} is damaged: it is no BigTIFF of 8-byte offsets")

    def at(self, offset: int, size: int) -> bytes:
        """Return the bytes at an offset; fewer where the file ends."""
        raise NotImplementedError

    def into(self, offset: int, target: np.ndarray) -> None:
        """Fill the contiguous bytes of `target` from an offset."""
        raise NotImplementedError

    def prefetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Be told which bytes (offset, size) will be asked for; of a disk that is no news."""

    def keep(self, offset: int, data: bytes) -> None:
        """Be given bytes that will be asked for again; of a disk they are not kept."""

    def several(self, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """Return the bytes of several ranges (offset, size), one after the other."""
        return (self.at(*each) for each in ranges)

    def each(self, work: Callable[..., object], items: Sequence[tuple[Any, ...]]) -> None:
        """Do something with several parts; of a disk one after the other."""
        for item in items:
            work(*item)

    def check(self, offset: int, size: int) -> None:
        """Raise where pixels are said to lie in the header or beyond the end of the file."""
        if offset < 8:
            raise OSError(f"{self.path} is damaged: a page does not say where its pixels are")
        if offset + size > self.size:
            raise self.cut_short(offset + size)

    def cut_short(self, end: int) -> OSError:
        """Return the error for what would lie beyond the end of the file."""
        return OSError(f"{self.path} is cut short: it has {self.size} bytes, refers to byte {end}")


class File(Tiff, io.FileIO):
    """A TIFF on a disk, read without a buffer."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        # Before it is opened: to open a pipe is to wait for what somebody writes into it.
        found = os.stat(self.path)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{self.path} is not a regular file")
        super().__init__(self.path)
        found = os.fstat(super().fileno())
        self.size = found.st_size
        self.head = self.at(0, 16)
        # A program may set the time of a file that it rewrote, but not the time of that.
        times = (found.st_mtime_ns, found.st_ctime_ns)
        self._identity = (self.path, self.size, found.st_ino, times, self.head)
        try:
            self.begin()
        except (OSError, ValueError):
            self.close()
            raise

    def fileno(self) -> int:
        """Refuse, so that tifffile takes this for a lone stream and opens no file beside it."""
        raise io.UnsupportedOperation("fileno")

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on, without memory for what is beyond the end: tifffile asks for what tags say."""
        rest = max(0, self.size - self.tell())
        return super().read(rest if size is None or size < 0 else min(size, rest))

    def at(self, offset: int, size: int) -> bytes:
        """Return the bytes at an offset; fewer where the file ends."""
        size = min(size, self.size - offset)
        if size <= 0 or offset < 0:
            return b""
        self.seek(offset)
        return super().read(size)

    def into(self, offset: int, target: np.ndarray) -> None:
        """Fill the contiguous bytes of `target` from an offset."""
        self.check(offset, target.nbytes)
        self.seek(offset)
        rest = memoryview(target.data)
        while rest:
            n = self.readinto(rest)
            if not n:
                raise self.cut_short(offset + target.nbytes)
            rest = rest[n:]

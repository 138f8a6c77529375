"""What is kept of one file, as bytes of a store: how it is written, and read again.

A record is the length of its head, the head (JSON), the tables of `tiff.anatomy`, and those bytes
of the file that are not pixels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from xarray_tiffstack.back.labels import dims_of
from xarray_tiffstack.messages import DAMAGED, unreadable
from xarray_tiffstack.ome_zarr.levels import Memory
from xarray_tiffstack.ome_zarr.pixels import arrived, open_pixels
from xarray_tiffstack.tiff.anatomy import PIECE, RUN, Anatomy
from xarray_tiffstack.tiff.encoding import VERSION, Encoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xarray_tiffstack.ome_zarr.pixels import Target

KEPT = "what the store keeps of it beside its pixels"
PIXELS = "what the store holds of its pixels"

_LENGTH = Struct("<4sI")
_MARK = b"TIF1"  # with which a record begins; the number is of this form of it


class Damaged(Exception):
    """What a store holds of a file cannot be read, said in plain words; never seen by users."""


@dataclass(frozen=True)
class Record:
    """All that is known of one file but its pixels."""

    path: str
    """Below the folder of the source, with "/"."""
    mtime: int
    """When it was last changed, in nanoseconds since 1970."""
    sha256: str
    """Of the entire file."""
    anatomy: Anatomy
    """Which of its bytes are made of pixels, and how."""
    groups: tuple[str, ...] = ()
    """Where in the store its pixels are: groups of the images that hold them, at full resolution;
    several where dimensions of the file are no axes of an image, in C order of those."""
    at: Mapping[str, int] | None = None
    """Position there along the dimensions that a file does not have; None without pixels."""
    dims: tuple[str, ...] = ()
    """Dimensions of the file, in the order of its axes."""
    shape: tuple[int, ...] = ()
    """Their lengths."""
    dtype: str = ""
    """Type of the pixels."""
    made_by: str = VERSION
    """Whose encoders made its strips or tiles again."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.anatomy.size

    @property
    def encoded(self) -> bool:
        """Whether it needs an encoder that makes the same bytes again."""
        return any(each.codec != "none" for each in self.anatomy.encoders)

    def head(self) -> bytes:
        """Everything but the bytes that are kept."""
        found = self.anatomy
        said = {
            "path": self.path,
            "mtime": self.mtime,
            "sha256": self.sha256,
            "size": found.size,
            "order": found.order,
            "encoders": [each.as_json() for each in found.encoders],
            "page": list(found.page),
            "runs": len(found.runs),
            "pieces": len(found.pieces),
            "groups": list(self.groups),
            "at": None if self.at is None else dict(self.at),
            "dims": list(self.dims),
            "shape": list(self.shape),
            "dtype": self.dtype,
            "made_by": self.made_by,
        }
        text = json.dumps(said, separators=(",", ":")).encode()
        # By columns, as differences: of equal distances zstd keeps next to nothing.
        tables = [_differences(table) for table in (found.runs, found.pieces)]
        return b"".join([_LENGTH.pack(_MARK, len(text)), text, *tables])


def entire(size: int) -> Anatomy:
    """Anatomy of a file of which nothing is made of pixels."""
    runs, pieces = (np.empty((0, len(columns)), np.int64) for columns in (RUN, PIECE))
    return Anatomy(size, "<", runs, pieces)


def _differences(table: np.ndarray) -> bytes:
    return np.diff(table, axis=0, prepend=0).T.astype("<i8").tobytes()


class Entries:
    """All entries of one kind in a store.

    Parameters
    ----------
    target
        The store.
    path
        Of their array in it.
    """

    def __init__(self, target: Target, path: str) -> None:
        self.target, self.path = target, path
        array: Any = zarr.open_array(target, path=path, mode="r")
        *shape, self.room = array.shape
        self.shape, self.chunk = tuple(shape), int(array.chunks[-1])
        names = (dim.removesuffix("_slot") for dim in dims_of(array))
        self.sizes = dict(zip(names, self.shape, strict=False))
        driver = "zarr3" if array.metadata.zarr_format == 3 else "zarr"
        # Pixels that are read meanwhile stay in the memory that they share.
        self.objects = open_pixels(target, path, driver, memory=Memory())

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to other processes as a name."""
        return Entries, (self.target, self.path)

    def read(self, index: tuple[int, ...], number: int) -> bytes:
        """Bytes of one object of an entry."""
        return np.asarray(self.objects[self._region(index, number)]).tobytes()

    def write(self, index: tuple[int, ...], parts: Iterable[bytes]) -> None:
        """Write an entry, object by object.

        Raises
        ------
        OSError
            It has no room for them.
        """
        number, rest = 0, bytearray()
        for part in parts:
            rest += part
            while len(rest) >= self.chunk:
                self._put(index, number, rest[: self.chunk])
                number += 1
                del rest[: self.chunk]
        if rest:
            self._put(index, number, rest + bytes(self.chunk - len(rest)))
        arrived()  # before the block is noted as finished

    def _put(self, index: tuple[int, ...], number: int, data: bytearray) -> None:
        if (number + 1) * self.chunk > self.room:
            raise OSError(
                f"entry {index} of {self.path} needs more than {self.room} bytes: did its file "
                "change since the conversion began?"
            )
        row = np.frombuffer(data, np.uint8)
        self.objects[self._region(index, number)] = row.reshape(*[1] * len(index), -1)

    def _region(self, index: tuple[int, ...], number: int) -> tuple[slice, ...]:
        at = number * self.chunk
        return *(slice(i, i + 1) for i in index), slice(at, at + self.chunk)


class Entry:
    """Bytes of one entry of a store, read as they are needed."""

    def __init__(self, entries: Entries, index: tuple[int, ...]) -> None:
        self.entries, self.index, self.chunk = entries, index, entries.chunk
        self._number, self._piece = -1, b""

    def read(self, start: int, stop: int) -> bytes:
        """Bytes from a first to a past last one.

        Raises
        ------
        Damaged
            The store does not give them.
        """
        parts = []
        for number in range(start // self.chunk, -(-stop // self.chunk)):
            if number != self._number:
                try:
                    self._piece = self.entries.read(self.index, number)
                except Exception as error:  # a damaged object can raise anything
                    raise Damaged(f"{KEPT} {unreadable(error)}") from error
                self._number = number
            begin = number * self.chunk
            parts.append(self._piece[max(start - begin, 0) : stop - begin])
        return b"".join(parts)

    def forget(self) -> None:
        """Let go of what was read."""
        self._number, self._piece = -1, b""

    def record(self) -> tuple[Record, int] | None:
        """Read what is kept of the file, and where its bytes begin in the entry; None if nothing.

        Raises
        ------
        Damaged
            It cannot be read, or is of a later version of this program.
        """
        try:
            return self._record()
        except Damaged:
            raise
        except Exception as error:  # of bytes that were changed, whatever takes them for numbers
            raise Damaged(f"{KEPT} {DAMAGED}") from error

    def _record(self) -> tuple[Record, int] | None:
        mark, length = _LENGTH.unpack(self.read(0, _LENGTH.size))
        if not any(mark) and not length:
            return None
        if mark != _MARK:
            raise Damaged(f"{KEPT} {DAMAGED}, or of a later version of this program")
        end = _LENGTH.size + length
        # Bytes that were changed are not always noticed by the codec.
        said = json.loads(self.read(_LENGTH.size, end))
        tables = []
        for rows, columns in ((said["runs"], RUN), (said["pieces"], PIECE)):
            nbytes = rows * len(columns) * 8
            flat = np.frombuffer(self.read(end, end + nbytes), "<i8").reshape(len(columns), rows)
            tables.append(np.cumsum(flat.T, axis=0, dtype=np.int64).reshape(rows, len(columns)))
            end += nbytes
        encoders = tuple(Encoder.from_json(each) for each in said["encoders"])
        runs, pieces = tables
        page = tuple(said["page"])
        anatomy = Anatomy(said["size"], said["order"], runs, pieces, encoders, page)
        kinds = {"path": str, "mtime": int, "size": int, "sha256": str, "made_by": str}
        if any(not isinstance(said[name], kind) for name, kind in kinds.items()):
            raise Damaged(f"{KEPT} {DAMAGED}")
        return Record(
            said["path"], said["mtime"], said["sha256"], anatomy, tuple(said["groups"]), said["at"],
            tuple(said["dims"]), tuple(said["shape"]), said["dtype"], said["made_by"],
        ), end  # fmt: skip

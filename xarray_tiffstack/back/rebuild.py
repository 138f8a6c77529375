"""How the bytes of a file are made again: of what was kept of it, and of the pixels of a store.

In the order of the file, piece by piece. Of the pixels a slab is in memory, as deep as a chunk.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_tiffstack.back.records import PIXELS, Damaged
from xarray_tiffstack.messages import unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xarray_tiffstack.back.records import Entry, Record
    from xarray_tiffstack.ome_zarr.pixels import Pixels

SLAB = 64 * 2**20  # bytes of pixels that are read at once, about
SLABS = 256 * 2**20  # of pixels that are kept, where a file has them in another order
_BLOCK = 1 << 20


class Slabs:
    """Pixels of one file in the order of its array, read from a store slab by slab.

    Parameters
    ----------
    images
        Full resolution of the images that hold them, as `Record.groups` lists them.
    axes
        Names of the axes of an image.
    chunk
        Extent of its stored objects along each axis.
    record
        Where in the images the file is, and what it holds.
    """

    def __init__(
        self, images: Sequence[Pixels], axes: Sequence[str], chunk: Sequence[int], record: Record
    ) -> None:
        self.images, self.axes, self.record = images, tuple(axes), record
        self.dtype, self.shape = np.dtype(record.dtype), record.shape
        self.spread = [d for d in record.dims if d not in axes]  # there is an image at each
        steps = dict(zip(axes, chunk, strict=True))
        self.slabs = list(self._cut([steps.get(dim, 0) for dim in record.dims]))
        lengths = [math.prod(s.stop - s.start for s in slab) for slab in self.slabs]
        self.starts = np.cumsum([0, *lengths])
        largest = max(1, max(lengths, default=0) * self.dtype.itemsize)
        found = record.anatomy  # whose first pixels, and pages, are in the order of the file
        in_order = bool(
            (np.diff(found.runs[:, 2]) > 0).all() & (np.diff(found.pieces[:, 3]) >= 0).all()
        )
        self.most = 1 if in_order else max(1, SLABS // largest)
        self._held: OrderedDict[int, np.ndarray] = OrderedDict()

    def _cut(self, steps: Sequence[int]) -> Iterator[tuple[slice, ...]]:
        """Cut the array into parts that follow each other, made of entire chunks of one image."""
        extent = list(self.shape)
        lead = max((i + 1 for i, step in enumerate(steps) if not step), default=0)
        extent[:lead] = [1] * lead
        for i, (length, step) in enumerate(zip(self.shape, steps, strict=True)):
            if i < lead:
                continue
            one = math.prod(extent) // max(1, length) * self.dtype.itemsize
            extent[i] = min(length, max(1, SLAB // max(1, one) // step) * step)
            if extent[i] > 1:  # cut along further axes they would not follow each other
                break
        for at in product(
            *(range(0, n, max(1, by)) for n, by in zip(self.shape, extent, strict=True))
        ):
            yield tuple(
                slice(i, min(i + by, n)) for i, by, n in zip(at, extent, self.shape, strict=True)
            )

    def _slab(self, number: int) -> np.ndarray:
        """Pixels of a slab, in one line."""
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        while len(self._held) >= self.most:
            self._held.popitem(last=False)
        where: dict[str, slice] = dict(zip(self.record.dims, self.slabs[number], strict=True))
        for dim, i in (self.record.at or {}).items():
            where[dim] = slice(i, i + 1)
        sizes = [n for d, n in zip(self.record.dims, self.shape, strict=True) if d in self.spread]
        at = [where[dim].start for dim in self.spread]
        image = self.images[int(np.ravel_multi_index(at, sizes)) if at else 0]
        try:
            found = image[tuple(where[dim] for dim in self.axes)]
        except Exception as error:  # a damaged chunk can raise anything
            raise Damaged(f"{PIXELS} {unreadable(error)}") from error
        inner = [dim for dim in self.record.dims if dim in self.axes]
        outer = [dim for dim in self.axes if dim not in inner]
        order = [self.axes.index(dim) for dim in (*outer, *inner)]
        # Where one slab is held, its memory may be that of the next one.
        copy = True if self.most > 1 else None
        line = np.array(found.transpose(order), self.dtype, order="C", copy=copy).reshape(-1)
        self._held[number] = line
        return line

    def parts(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Pixels from a first to a past last one, slab by slab; gone when the next one is asked."""
        number = int(np.searchsorted(self.starts, start, "right")) - 1
        while start < stop:
            begin, end = int(self.starts[number]), int(self.starts[number + 1])
            yield self._slab(number)[start - begin : min(stop, end) - begin]
            start, number = min(stop, end), number + 1

    def page(self, number: int, shape: Sequence[int]) -> np.ndarray:
        """Pixels of one page."""
        size = math.prod(shape)
        parts = self.parts(number * size, (number + 1) * size)
        return np.concatenate([part.copy() for part in parts]).reshape(shape)


def rebuilt(record: Record, entry: Entry, begin: int, slabs: Slabs | None) -> Iterator[Any]:
    """Make the bytes of a file, in their order.

    Parameters
    ----------
    record
        What is known of the file.
    entry, begin
        Its entry in the store, and where in that the bytes begin that were kept.
    slabs
        Its pixels; None where it has none.
    """
    found = record.anatomy
    big = found.order != "<"
    runs = {int(row[0]): row.tolist() for row in found.runs}
    pieces = {int(row[0]): row.tolist() for row in found.pieces}
    gaps = dict(found.gaps())
    page: tuple[int, np.ndarray] = (-1, np.empty(0))
    at = 0
    while at < found.size:
        if at in gaps:
            stop = gaps[at]
            for first in range(at, stop, _BLOCK):
                n = min(_BLOCK, stop - first)
                yield entry.read(begin, begin + n)
                begin += n
            at = stop
            continue
        if slabs is None:
            raise Damaged(f"{PIXELS} is not there")
        if at in runs:
            _, nbytes, start = runs[at]
            for part in slabs.parts(start, start + nbytes // slabs.dtype.itemsize):
                yield (part.byteswap() if big else part).view(np.uint8).data
        else:
            _, nbytes, which, number, s, z, y, x, *shape = pieces[at]
            if page[0] != number:
                page = number, slabs.page(number, found.page)
            depth, length, width, _ = shape
            part = page[1][s, z : z + depth, y : y + length, x : x + width]
            yield found.encoders[which].encode(part, tuple(shape))
        at += nbytes

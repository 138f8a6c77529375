"""A coarser level of an image, made while its pixels are in the processor's cache.

Means of pairs of pixels, integers rounded half up. NumPy takes them, in pieces that stay in the
cache and memory that is used again: a whole-array mean is ten times slower, fresh memory five
times.
"""

from __future__ import annotations

import math
from itertools import cycle, pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_tiffstack.ome_zarr.chunks import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

CACHED = 2**18  # pixels that are made at once, of up to eight

_spare = Memory()


class Coarser:
    """A level in the making: takes the one above it piece by piece, and averages pairs.

    Parameters
    ----------
    shape
        Of the level above.
    halved
        Axes along which pairs are averaged.
    out
        The pixels, to be filled.
    """

    def __init__(self, shape: Sequence[int], halved: Sequence[int], out: np.ndarray) -> None:
        self.shape, self.halved, self.pixels = shape, halved, out
        self.step = [2 if axis in halved else 1 for axis in range(len(shape))]
        self.edge = out  # the first one of a pair, whose second one comes later

    def take(
        self, start: Sequence[int], pixels: np.ndarray, see: Callable[[np.ndarray], None]
    ) -> None:
        """Average a piece that begins where the one before ended, along one axis.

        `see` is given the same pixels in C order, part by part, each as it comes into the cache.
        """
        shape = pixels.shape
        axis = next(
            i
            for i, n in enumerate(shape)
            if n > 1 or (i in self.halved and self.shape[i] > 1) or i == len(shape) - 1
        )
        begin, end, by = start[axis], start[axis] + shape[axis], self.step[axis]
        long = max(1, CACHED * math.prod(self.step) // math.prod(shape[axis + 1 :]) // by) * by
        first, last = -(-begin // by) * by, end // by * by  # of the pairs that are whole
        for at, stop in pairwise(sorted({begin, *range(first, last, long), last, end})):
            part = pixels[(slice(None),) * axis + (slice(at - begin, stop - begin),)]
            see(part)
            if stop - at >= by:
                self._average([*start[:axis], at, *start[axis + 1 :]], part)
            elif at % 2:
                pair = np.concatenate([self.edge, part], axis)
                self._average([*start[:axis], at - 1, *start[axis + 1 :]], pair)
            else:  # the other one comes with the next piece, if there is one
                self.edge = part.copy()

    def _average(self, start: Sequence[int], pixels: np.ndarray) -> None:
        part = tuple(
            slice(at // by, (at + n) // by)
            for at, by, n in zip(start, self.step, pixels.shape, strict=True)
        )
        halve(pixels, self.halved, self.pixels[part])


def halve(pixels: np.ndarray, halved: Iterable[int], out: np.ndarray | None = None) -> np.ndarray:
    """Average pairs along some axes; an odd last one is left out, integers are rounded half up."""
    halved = sorted(halved)
    step = tuple(2 if axis in halved else 1 for axis in range(pixels.ndim))
    shape = [n // by for n, by in zip(pixels.shape, step, strict=True)]
    coarse = np.empty(shape, pixels.dtype) if out is None else out
    *outer, height, width = shape
    rows = max(1, min(height, CACHED // max(width, 1)))
    # What was added along one axis is half as large, in a type of twice the size at most.
    spare = _spare.array((2, math.prod(step) // 2 * rows * width), _wide(pixels.dtype))
    for *at, row in product(*map(range, outer), range(0, height, rows)):
        piece = (
            *(slice(i, i + 1) for i in at),
            slice(row, min(row + rows, height)),
            slice(0, width),
        )
        fine = tuple(slice(s.start * by, s.stop * by) for s, by in zip(piece, step, strict=True))
        coarse[piece] = _mean_of_pairs(pixels[fine], halved, spare)
    return coarse


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Type that holds sums of a few pixels; of 64-bit integers none of integers does."""
    if dtype.kind in "iub" and dtype.itemsize <= 4:
        return np.dtype(f"{dtype.kind.replace('b', 'u')}{2 * dtype.itemsize}")
    return np.dtype(f"f{max(4, dtype.itemsize)}")


def _mean_of_pairs(pixels: np.ndarray, halved: Sequence[int], spare: np.ndarray) -> np.ndarray:
    """Mean over pairs along some axes, of even length each, computed in spare memory.

    Along x it takes both pixels of a pair as one number of twice their size, of which several fit
    into a register; one by one they take twice the time.
    """
    wide, bits, axes = spare.dtype, 8 * pixels.itemsize, list(halved)
    memory = cycle(spare)
    count, half = len(halved), (1 << len(halved)) // 2
    unsigned = pixels.dtype.kind == wide.kind == "u"
    # Where the sums fit into the type of the pixels (a camera of 12 bits is never beyond that),
    # they are made in it, and x comes last, when there are fewer.
    narrow = unsigned and int(pixels.max(initial=0)) + 1 <= np.iinfo(pixels.dtype).max >> count
    dtype = pixels.dtype if narrow else wide
    in_pairs = unsigned and axes[-1:] == [pixels.ndim - 1]
    if in_pairs:
        axes.pop()
        if not narrow:
            both = _pairs(pixels, wide)
            high = np.right_shift(both, bits, out=_shaped(next(memory), both.shape))
            low = np.bitwise_and(both, (1 << bits) - 1, out=_shaped(next(memory), both.shape))
            pixels = np.add(high, low, out=low)
    total = pixels
    for axis in axes:
        first, second = (total[(slice(None),) * axis + (slice(i, None, 2),)] for i in (0, 1))
        out = _shaped(next(memory).view(dtype), first.shape)
        total = np.add(first, second, out=out, dtype=dtype)
    if in_pairs and narrow:
        both = _pairs(total, wide)
        # Times 1 0001 in hexadecimal: the upper half is the sum of both halves.
        total = np.multiply(both, (1 << bits) + 1, out=_shaped(next(memory), both.shape))
        half, count = half << bits, count + bits
    if wide.kind in "iu":
        total += half
        total >>= count
    else:
        total /= 1 << count
        if pixels.dtype.kind != "f":
            total = np.floor(total + 0.5)
    return total


def _pairs(pixels: np.ndarray, wide: np.dtype[Any]) -> np.ndarray:
    """Take pairs along the last axis as numbers of twice the size."""
    rows = pixels if pixels.strides[-1] == pixels.itemsize else np.ascontiguousarray(pixels)
    return rows.view(wide)


def _shaped(memory: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Array of some shape at the beginning of memory."""
    return memory[: math.prod(shape)].reshape(shape)

"""The coarser levels of an image: by how much each is coarser, its positions, and its pixels."""

from __future__ import annotations

import math
import threading
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import xarray as xr

Method: TypeAlias = Literal["mean", "nearest", "mode"]

METHODS = ("mean", "nearest", "mode")
SMALL_PLANE = 256  # the coarsest level's planes fit a square of this side
SHORT_AXIS = 64  # an axis of z at most this long is not halved: it is thin already
CACHED = 2**18  # pixels that are made at once, of up to eight: they stay in the processor's cache


def level_factors(
    sizes: Mapping[str, int],
    spacing: Mapping[str, float],
    levels: int | Literal["auto"],
    short: int = SHORT_AXIS,
) -> list[dict[str, int]]:
    """Choose by how much each level is coarser than full resolution, per axis of space.

    Each level halves the one above: y and x always, z where that brings the voxel closer to a
    cube. Where the spacing is not known, voxels are taken for cubes. A z of at most 64 planes is
    not halved. By default levels end when a plane is at most 256 pixels wide and high.

    Parameters
    ----------
    sizes
        Length of each axis of space at full resolution.
    spacing
        Distance of pixels along the axes, where it is known.
    levels
        Number of levels, full resolution included, or "auto".
    short
        Length up to which z is not halved.

    Raises
    ------
    ValueError
        Fewer than one level, or more than the image has pixels to halve.

    Examples
    --------
    >>> level_factors({"z": 50, "y": 1024, "x": 768}, {"z": 0.5, "y": 0.1, "x": 0.1}, "auto")
    [{'z': 1, 'y': 1, 'x': 1}, {'z': 1, 'y': 2, 'x': 2}, {'z': 1, 'y': 4, 'x': 4}]
    >>> level_factors({"z": 200, "y": 512, "x": 512}, {}, 2)
    [{'z': 1, 'y': 1, 'x': 1}, {'z': 2, 'y': 2, 'x': 2}]
    """
    if levels != "auto" and (not isinstance(levels, int) or levels < 1):
        raise ValueError(f"levels={levels!r} must be a number from 1, or 'auto'")
    factors = [dict.fromkeys(sizes, 1)]
    while levels == "auto" or len(factors) < levels:
        now = {axis: n // factors[-1][axis] for axis, n in sizes.items()}
        if levels == "auto" and max(now["y"], now["x"]) <= SMALL_PLANE:
            break
        step = {axis: spacing.get(axis, 1.0) * factors[-1][axis] for axis in sizes}
        halved = {axis for axis in ("y", "x") if now[axis] > 1}
        finest = min(step["y"], step["x"])
        if now.get("z", 0) > short and step["z"] < math.sqrt(2) * finest:
            halved.add("z")
        if not halved:
            raise ValueError(f"levels={levels}: after {len(factors)} nothing is left to halve")
        factors.append({axis: f * (2 if axis in halved else 1) for axis, f in factors[-1].items()})
    return factors


def level_labels(labels: xr.Dataset, factors: Mapping[str, int]) -> xr.Dataset:
    """Coordinates of a level, from those of one image: positions are averaged.

    Other coordinates that have a coarser axis (the path of each plane's file) have no meaning
    there and stay with full resolution.
    """
    coarser = {d for d, f in factors.items() if f > 1}
    if not coarser:
        return labels
    labels = labels.drop_vars(
        [n for n, v in labels.coords.items() if coarser & set(v.dims) and n not in coarser]
    )
    windows = {d: factors[d] for d in coarser if d in labels.coords}
    for d, window in windows.items():
        mean = labels[d].coarsen({d: window}, boundary="trim").mean(keep_attrs=True)
        labels = labels.drop_vars(d).assign_coords({d: mean.variable})
    return labels


# --- pixels -----------------------------------------------------------------------------------


class Memory(threading.local):
    """Memory of each thread that is used again: the kernel has to clear what is new."""

    held = np.empty(0, np.uint8)

    def array(self, shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray:
        """Give an array, in the place of the one that this thread was given before."""
        nbytes = math.prod(shape) * dtype.itemsize
        if self.held.size < nbytes:
            self.held = np.empty(nbytes, np.uint8)
        return self.held[:nbytes].view(dtype).reshape(shape)


_spare = Memory(), Memory()


class Coarser:
    """A level in the making: takes the one above it piece by piece, and halves it.

    Parameters
    ----------
    shape
        Of the level above.
    halved
        Axes along which it is halved.
    out
        The pixels, to be filled.
    method
        How a pixel is made of those that it covers.
    cached
        Pixels that are made at once.
    """

    def __init__(
        self,
        shape: Sequence[int],
        halved: Sequence[int],
        out: np.ndarray,
        method: Method = "mean",
        cached: int = CACHED,
    ) -> None:
        self.shape, self.halved, self.pixels = shape, halved, out
        self.step = [2 if axis in halved else 1 for axis in range(len(shape))]
        self.edge = out  # the first one of a pair, whose second one comes later
        self.method, self.cached = method, cached

    def take(
        self, start: Sequence[int], pixels: np.ndarray, see: Callable[[np.ndarray], None]
    ) -> None:
        """Halve a piece that begins where the one before ended, along one axis.

        `see` is given the same pixels in C order, part by part, each as it comes into the cache.
        """
        shape = pixels.shape
        axis = next(
            i
            for i, n in enumerate(shape)
            if n > 1 or (i in self.halved and self.shape[i] > 1) or i == len(shape) - 1
        )
        begin, end, by = start[axis], start[axis] + shape[axis], self.step[axis]
        long = max(1, self.cached * math.prod(self.step) // math.prod(shape[axis + 1 :]) // by) * by
        first, last = -(-begin // by) * by, end // by * by  # of the pairs that are all there
        for at, stop in pairwise(sorted({begin, *range(first, last, long), last, end})):
            part = pixels[(slice(None),) * axis + (slice(at - begin, stop - begin),)]
            see(part)
            if stop - at >= by:
                self._halve([*start[:axis], at, *start[axis + 1 :]], part)
            elif at % 2:
                pair = np.concatenate([self.edge, part], axis)
                self._halve([*start[:axis], at - 1, *start[axis + 1 :]], pair)
            else:  # the other one comes with the next piece, if there is one
                self.edge = part.copy()

    def _halve(self, start: Sequence[int], pixels: np.ndarray) -> None:
        part = tuple(
            slice(at // by, (at + n) // by)
            for at, by, n in zip(start, self.step, pixels.shape, strict=True)
        )
        halve(pixels, self.halved, self.pixels[part], self.method, self.cached)


def halve(
    pixels: np.ndarray,
    halved: Iterable[int],
    out: np.ndarray,
    method: Method = "mean",
    cached: int = CACHED,
) -> np.ndarray:
    """Make one pixel of pairs along some axes; an odd last one is left out.

    Examples
    --------
    >>> halve(np.array([[1, 2, 9], [2, 3, 9]]), [0, 1], np.empty((1, 1), int))
    array([[2]])
    """
    halved = sorted(halved)
    make = {"mean": _mean, "nearest": _nearest, "mode": _mode}[method]
    step = [2 if axis in halved else 1 for axis in range(pixels.ndim)]
    *outer, height, width = out.shape
    rows = max(1, min(height, cached // max(width, 1)))
    for *at, row in product(*map(range, outer), range(0, height, rows)):
        piece = (*(slice(i, i + 1) for i in at), slice(row, min(row + rows, height)), slice(width))
        fine = (slice((s.start or 0) * by, s.stop * by) for s, by in zip(piece, step, strict=True))
        make(pixels[tuple(fine)], halved, out[piece])
    return out


def _mean(pixels: np.ndarray, halved: Sequence[int], out: np.ndarray) -> None:
    """Average pairs; integers are rounded half up, whatever they are exact, and none overflows."""
    count = len(halved)
    if pixels.dtype.kind not in "iub":  # a power of two makes no number less exact
        wide = np.result_type(pixels.dtype, np.float32)
        out[...] = _sum(np.multiply(pixels, 0.5**count, dtype=wide), halved, wide)
        return
    pixels = pixels.view(np.uint8) if pixels.dtype.kind == "b" else pixels
    kind, size, half = pixels.dtype.kind, pixels.itemsize, 1 << count >> 1
    most = np.iinfo(pixels.dtype).max >> count
    if kind == "u" and int(pixels.max(initial=0)) < most:  # a camera of 12 bits is never beyond
        total = _sum(pixels, halved, pixels.dtype)
    elif size < 8:
        total = _sum(pixels, halved, np.dtype(f"{kind}{2 * size}"))
    else:  # no type holds sums: high and low bits apart
        low = _sum(pixels & ((1 << count) - 1), halved, pixels.dtype) + half >> count
        np.add(_sum(pixels >> count, halved, pixels.dtype), low, out=out)
        return
    total += half
    np.right_shift(total, count, out=out, casting="unsafe")


def _sum(pixels: np.ndarray, halved: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray:
    """Add pairs along some axes, one after the other, in memory that is used again."""
    for i, axis in enumerate(halved):
        first, second = (pixels[(slice(None),) * axis + (slice(at, None, 2),)] for at in (0, 1))
        spare = _spare[i % 2].array(first.shape, dtype)
        pixels = np.add(first, second, out=spare, dtype=dtype)
    return pixels


def _nearest(pixels: np.ndarray, halved: Sequence[int], out: np.ndarray) -> None:
    """Take the first pixel of each pair."""
    out[...] = pixels[tuple(slice(None, None, 2 if i in halved else 1) for i in range(out.ndim))]


def _mode(pixels: np.ndarray, halved: Sequence[int], out: np.ndarray) -> None:
    """Take the pixel that there is most often; of several the first."""
    every = [slice(None)] * pixels.ndim
    group = []
    for corner in product((0, 1), repeat=len(halved)):
        at = every.copy()
        for axis, first in zip(halved, corner, strict=True):
            at[axis] = slice(first, None, 2)
        group.append(pixels[tuple(at)])
    best = np.zeros(out.shape, np.uint8)
    for one in group:
        times = np.zeros(out.shape, np.uint8)
        for other in group:
            times += one == other
        np.copyto(out, one, where=times > best)
        np.maximum(best, times, out=best)

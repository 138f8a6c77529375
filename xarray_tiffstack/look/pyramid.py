"""Levels and chunks for what is looked at: a plane, planes from three sides, or a volume.

A chunk that is as deep as it is wide suits all sides, but for one plane it reads many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from xarray_tiffstack.ome_zarr.levels import level_factors

if TYPE_CHECKING:
    from collections.abc import Mapping

Seen: TypeAlias = Literal["planes", "sides", "volume"]

PLANE_SIDE = 512  # pixels at most along y and x of a chunk of one plane
FEW_PIXELS = 2**16  # planes of fewer pixels share a chunk
SIDES = ((8, 128), (32, 64))  # planes and pixels of a side of a chunk: level 0, and coarser ones
VOLUME = ((32, 64), (64, 64))
SLAB = 8  # planes that are read at once, where chunks have more
COARSE = 64  # the coarsest level of a volume is at most so wide and high
MIDDLE = 3  # where a volume is coarser along z, the middle one of so many planes is taken


@dataclass(frozen=True)
class Level:
    """One level of an image."""

    factor: Mapping[str, int]
    """By how much it is coarser, along z, y and x."""
    shape: Mapping[str, int]
    """Length of each axis."""
    chunk: Mapping[str, int]
    """Extent of a chunk along each axis."""

    @property
    def step(self) -> int:
        """Planes of the files to one plane."""
        return self.factor.get("z", 1)


@dataclass(frozen=True)
class Pyramid:
    """All levels of an image."""

    levels: tuple[Level, ...]
    slab: int
    """Planes that are read at once."""
    seen: Seen

    @property
    def factors(self) -> list[Mapping[str, int]]:
        """By how much each level is coarser."""
        return [level.factor for level in self.levels]


def pyramid(sizes: Mapping[str, int], spacing: Mapping[str, float], seen: Seen) -> Pyramid:
    """Choose levels and chunks.

    Parameters
    ----------
    sizes
        Length of each axis at full resolution.
    spacing
        Distance of pixels along z, y and x, where it is known.
    seen
        "planes": levels are coarser in y and x alone, and a chunk lies in one plane, so that a
        plane needs no other one. "sides": chunks are cubes. "volume": coarser in z, too.

    Examples
    --------
    >>> sizes = {"t": 9, "z": 201, "y": 1024, "x": 768}
    >>> for seen in ("planes", "sides", "volume"):
    ...     coarsest = pyramid(sizes, {"z": 0.4, "y": 0.1, "x": 0.1}, seen).levels[-1]
    ...     print(tuple(coarsest.shape.values()), tuple(coarsest.chunk.values()))
    (9, 201, 256, 192) (1, 1, 256, 192)
    (9, 201, 256, 192) (1, 29, 64, 64)
    (9, 67, 64, 48) (1, 34, 64, 48)
    """
    few = max(1, FEW_PIXELS // (sizes["y"] * sizes["x"]))  # planes
    if seen == "volume" and "z" in sizes:
        factors = _volume(sizes, spacing)
    else:
        plane = level_factors({d: sizes[d] for d in ("y", "x")}, {}, "auto")
        factors = [{"z": 1, **factor} for factor in plane]
    levels = []
    for i, factor in enumerate(factors):
        shape = {d: n // factor.get(d, 1) for d, n in sizes.items()}
        if seen == "planes":
            depth, side = few, PLANE_SIDE
        else:
            depth, side = (SIDES if seen == "sides" else VOLUME)[min(i, 1)]
        chunk = {d: _even(n, side) if d in ("y", "x") else 1 for d, n in shape.items()}
        if "z" in chunk:
            chunk["z"] = _even(shape["z"], max(depth, few))
        levels.append(Level(factor, shape, chunk))
    return Pyramid(tuple(levels), few if seen == "planes" else SLAB, seen)


def _even(length: int, most: int) -> int:
    """Cut an axis into pieces of nearly the same length."""
    return math.ceil(length / math.ceil(length / most))


def _volume(sizes: Mapping[str, int], spacing: Mapping[str, float]) -> list[dict[str, int]]:
    """Factors that bring voxels closer to cubes, the coarser the closer."""
    factors = [dict.fromkeys(("z", "y", "x"), 1)]
    while max(sizes[d] // factors[-1][d] for d in ("y", "x")) > COARSE:
        now = factors[-1]
        factor = {d: now[d] * (2 if sizes[d] // now[d] > 1 else 1) for d in ("y", "x")}
        finest = min(spacing.get(d, 1.0) * factor[d] for d in ("y", "x"))
        deeper = spacing.get("z", 1.0) * now["z"] * math.sqrt(MIDDLE) <= finest
        long = sizes["z"] // now["z"] >= COARSE
        factors.append({"z": now["z"] * (MIDDLE if deeper and long else 1), **factor})
    return factors

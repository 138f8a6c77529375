"""Which pixels of a Dataset are those of complete files, as they are in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xarray_tiffstack.array.reads import source_of

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from xarray_tiffstack.tiff import Layout


@dataclass(frozen=True, eq=False)
class CompleteFiles:
    """The files of a Dataset each of which it holds from its first to its last pixel."""

    layout: Layout
    """What a file holds."""
    outer: tuple[str, ...]
    """Dimensions along which there is a file at each position."""
    inner: tuple[str, ...]
    """Dimensions of a file, in the order of its axes."""
    paths: np.ndarray
    """Path of each file, along the outer dimensions; None where none is read."""
    planes: np.ndarray | None
    """How many planes those files hold that end early, along the outer dimensions."""

    def layout_of(self, slot: tuple[int, ...]) -> Layout:
        """Tell what the file of a slot holds."""
        planes = None if self.planes is None else self.planes[slot]
        if planes is None:
            return self.layout
        return replace(self.layout, shape=(int(planes), *self.layout.shape[1:]))


def complete_files(ds: xr.Dataset) -> CompleteFiles | None:
    """Find the files of a Dataset; None where its pixels are not those of complete files.

    That is so of a selection within files, of mosaics, and of what was computed. Costs no IO.
    """
    image = ds.variables.get("image")
    reads = None if image is None else source_of(image._data)
    if image is None or reads is None or not reads.of_complete_files:
        return None
    ndim, dims = reads.grid.paths.ndim, tuple(map(str, image.dims))
    axes = [axis for axis in reads.axes if axis < ndim]
    order = [sorted(axes).index(axis) for axis in axes]
    slots = [
        reads.of_block(each, list(reads.index)).transpose(order)
        for each in (reads.grid.paths, reads.grid.planes)
        if each is not None
    ]
    return CompleteFiles(
        reads.grid.layout,
        tuple(d for d, axis in zip(dims, reads.axes, strict=True) if axis < ndim),
        tuple(d for d, axis in zip(dims, reads.axes, strict=True) if axis >= ndim),
        slots[0],
        slots[1] if len(slots) > 1 else None,
    )

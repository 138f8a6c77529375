"""How xarray's own selections reach the files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from dask.array.core import normalize_chunks
from xarray.core.indexing import (
    CopyOnWriteArray,
    IndexingSupport,
    MemoryCachedArray,
    VectorizedIndexer,
    apply_indexer,
    as_indexable,
    decompose_indexer,
)

from xarray_tiffstack.array import device
from xarray_tiffstack.array.mosaic import files_of
from xarray_tiffstack.array.reads import source_of

if TYPE_CHECKING:
    import dask.array as da

    from xarray_tiffstack.array.mosaic import Tiles
    from xarray_tiffstack.array.reads import Key, Reads


FEW = 1000  # points that are read one by one


class _UnwrappedVariable(xr.Variable):
    """Variable whose data `xarray.open_dataset` leaves as they are.

    Without ``chunks=`` xarray wraps the data of every backend in a caching array (it assigns
    ``variable.data``): dask arrays too, whose chunks, and with them streaming, are then lost;
    and coordinates in memory, whose values the repr then hides.
    """

    __slots__ = ()

    @property
    def data(self) -> Any:
        """The array of this variable."""
        return super().data

    @data.setter
    def data(self, data: Any) -> None:
        if not isinstance(data, (CopyOnWriteArray, MemoryCachedArray)):
            xr.Variable.data.fset(self, data)  # type: ignore[attr-defined]


def on_host(ds: xr.Dataset) -> xr.Dataset:
    """Bring ``image`` to the host: files are read there, what was computed is copied by blocks."""
    if "image" not in ds.data_vars:
        return ds
    array = ds.variables["image"]._data
    files = files_of(array)
    if files is not None:
        copied = array if files.device is None else files.on(None)
    else:
        copied = device.on_host(array)
    return ds if copied is array else ds.assign(image=ds["image"].copy(data=copied))


class TokenVariable(_UnwrappedVariable):
    """Coordinate that stays in memory when the Dataset is cut into chunks.

    xarray makes dask arrays of coordinates then, of one chunk along every dimension that was
    not named: ``ds.chunks`` is refused from there on, as they and the image do not agree, and
    text cannot be saved without a warning. Only where every border is given along all of its
    dimensions, as `xarray.map_blocks` does, it is cut like any other.
    """

    __slots__ = ()

    def chunk(self, chunks: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Cut at borders that are given for every dimension; see `xarray.Variable.chunk`."""
        borders = isinstance(chunks, Mapping) and self.dims
        if borders and all(isinstance(chunks.get(dim), tuple) for dim in self.dims):
            return super().chunk(chunks, **options)
        return self


class FileVariable(_UnwrappedVariable):
    """Variable whose selections, transposes and rechunks are made on the files.

    Its data are plain dask arrays; where they are a mere view of files, a selection gives a
    narrower view instead of a slice on top, whatever was selected before.
    """

    __slots__ = ()

    def to_base_variable(self) -> FileVariable:
        """Stay what it is: xarray asks for this on the way, in `swap_dims` and `query`."""
        return self._replace()

    @property
    def _files(self) -> Reads | Tiles | None:
        return files_of(self._data)

    def on(self, device: str | None) -> FileVariable:
        """Read to a device, or to the host; what is no mere view of files stays where it is."""
        files = self._files
        if files is None or files.device == device:
            return self
        return self._replace(data=files.on(device))

    def read_into(self, memory: np.ndarray) -> np.ndarray | None:
        """Read all pixels at once into the beginning of some bytes of the host.

        Memory that is used again costs less than new memory, which the kernel has to clear first.
        None where the data are no view of files that are all laid out alike.
        """
        files = source_of(self._data)
        return None if files is None else files.read_into(memory)

    def __getitem__(self, key: Any) -> FileVariable:
        """Select; see `xarray.Variable`."""
        files = self._files
        if files is None:
            return super().__getitem__(key)
        dims, indexer, order = self._broadcast_indexes(key)  # type: ignore[no-untyped-call]
        if not isinstance(indexer, VectorizedIndexer):
            return self._finalize_indexing_result(dims, files.select(self._key(indexer.tuple)))
        data = self._points(files, indexer)
        if order:
            data = np.moveaxis(data, range(len(order)), order)
        return self._finalize_indexing_result(dims, data)

    def _points(self, files: Reads | Tiles, indexer: VectorizedIndexer) -> da.Array:
        """Take points: a few one by one, many from the planes and rows that have any."""
        arrays = np.broadcast_arrays(*(p for p in indexer.tuple if not isinstance(p, slice)))
        shape = arrays[0].shape
        if 0 < math.prod(shape) <= FEW:
            points = zip(*(array.ravel().tolist() for array in arrays), strict=True)
            parts = []
            for point in points:
                at = iter(point)
                key = (p if isinstance(p, slice) else next(at) for p in indexer.tuple)
                parts.append(files.select(self._key(tuple(key))))
            stacked: Any = np.stack(parts)  # of the package that made them
            return stacked if len(shape) == 1 else stacked.reshape((*shape, *stacked.shape[1:]))
        outer, rest = decompose_indexer(indexer, self.shape, IndexingSupport.OUTER)
        narrow = files.select(self._key(outer.tuple))
        return apply_indexer(as_indexable(narrow), rest)  # type: ignore[no-untyped-call]

    def _key(self, key: tuple[Any, ...]) -> Key:
        """Normalize what xarray gives for each dimension: ints, slices, 1-d integer arrays."""
        parts: list[int | slice | np.ndarray] = []
        for part, length in zip(key, self.shape, strict=True):
            if isinstance(part, slice):
                parts.append(part)
                continue
            at = np.asarray(part)
            if at.size and not -length <= at.min() <= at.max() < length:
                raise IndexError(f"{part} is out of bounds for a dimension of size {length}")
            at = np.where(at < 0, at + length, at)
            parts.append(at if at.ndim else int(at))
        return tuple(parts)

    def transpose(self, *dim: Any, **options: Any) -> FileVariable:
        """Reorder the dimensions; see `xarray.Variable.transpose`."""
        moved = super().transpose(*dim, **options)
        files = self._files
        if files is None or moved is self:
            return moved
        order = tuple(self.dims.index(d) for d in moved.dims)
        return moved._replace(data=files.transpose(order))

    def chunk(  # type: ignore[override]
        self,
        chunks: Any = None,
        **options: Any,
    ) -> FileVariable:
        """Cut into chunks; see `xarray.Variable.chunk`."""
        chunks = {} if chunks is None else chunks
        files = self._files
        if files is None:
            return super().chunk(chunks, **options)
        if isinstance(chunks, dict):
            named = {**chunks, **{dim: options[dim] for dim in self.dims if dim in options}}
            chunks = tuple(
                old if named.get(dim) is None else named[dim]
                for dim, old in zip(self.dims, files.chunks, strict=True)
            )
        target = normalize_chunks(
            chunks, self.shape, dtype=self.dtype, previous_chunks=files.chunks
        )
        return self._replace(data=self._data if target == files.chunks else files.rechunk(target))

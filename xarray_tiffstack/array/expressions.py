"""Arrays of the package dask-array, which carries a selection through computations to the files.

``(ds.image - 100).isel(z=5)`` of a dask array reads entire files. dask-array plans first and
computes then: it hands the selection down, and one plane of each file is read. It does so only
where a program asks for it, by ``dask_array.xarray.register()``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xarray_tiffstack.array.reads import Reads


def wanted() -> bool:
    """Whether this program has xarray compute with dask-array."""
    module = sys.modules.get("dask_array.xarray")
    return module is not None and bool(module.isactive())


class Pixels:
    """Pixels of files as what `dask_array.from_array` reads slices of.

    Parameters
    ----------
    reads
        What is read of which files.
    """

    def __init__(self, reads: Reads) -> None:
        self.reads = reads
        self.shape = tuple(map(sum, reads.chunks))
        self.ndim = len(self.shape)
        self.dtype = reads.grid.layout.dtype

    def __dask_tokenize__(self) -> object:
        """Identify what is read, for the key names."""
        return self.reads.__dask_tokenize__()

    def __getitem__(self, key: Any) -> Any:
        """Read a part: an int or a slice a dimension."""
        return self.reads.part(key).whole()


def array_of(reads: Reads) -> Any:
    """Make the lazy array of what is read."""
    import dask_array

    return dask_array.from_array(
        Pixels(reads), chunks=reads.chunks, asarray=False, fancy=False, meta=reads.empty()
    )


def reads_of(array: Any) -> Reads | None:
    """Find what an array reads, None where it is no mere view of files."""
    module = sys.modules.get("dask_array")
    if module is None or not isinstance(array, module.Array):
        return None
    expression: Any = array.expr
    pixels = getattr(expression, "array", None)
    if not isinstance(pixels, Pixels) or expression.operand("_region") is not None:
        return None
    return pixels.reads if expression.chunks == pixels.reads.chunks else None

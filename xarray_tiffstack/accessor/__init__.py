"""What is done to opened data: ``ds.tiffstack``, and ``.cupy`` where cupy-xarray is missing.

Imported with every engine that xarray looks up, so it imports nothing heavy itself. Each module has
the methods of one kind.
"""

from __future__ import annotations

import xarray as xr

from xarray_tiffstack.accessor.back import Back
from xarray_tiffstack.accessor.indexing import Indexing
from xarray_tiffstack.accessor.looking import Looking
from xarray_tiffstack.accessor.saving import Saving
from xarray_tiffstack.array import device


class TiffstackAccessor(Looking, Saving, Indexing, Back):
    """What a Dataset or DataArray from a folder of TIFFs knows of its files, and how it is saved.

    Works on what ``xarray.open_dataset(..., engine="tiffstack")`` gives, after any selection,
    and on data read back from a store, as far as the coordinates ``path`` and ``present`` are
    still there.
    """


class MissingCupyAccessor:
    """Says what to install: ``.cupy`` is the accessor of cupy-xarray, which is not here."""

    def __init__(self, data: xr.Dataset | xr.DataArray) -> None:
        """Raise the error that says what is missing."""
        raise ImportError(f".cupy needs {' and '.join(device.absent())}: {device.INSTALL}")


for register in (xr.register_dataset_accessor, xr.register_dataarray_accessor):
    register("tiffstack")(TiffstackAccessor)  # type: ignore[no-untyped-call]
    if device.absent():
        register("cupy")(MissingCupyAccessor)  # type: ignore[no-untyped-call]

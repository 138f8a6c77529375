"""What ``.cupy`` does with a view of files: it is read to the card; all else is cupy-xarray's."""

from __future__ import annotations

from typing import Any

import xarray as xr
from cupy_xarray import CupyDataArrayAccessor, CupyDatasetAccessor

from xarray_tiffstack.array import device as _device
from xarray_tiffstack.array.mosaic import files_of


class _OfDataArray(CupyDataArrayAccessor):  # type: ignore[misc]
    """``.cupy`` of a DataArray."""

    def as_cupy(self) -> Any:
        """Put the pixels on the graphics card; lazily where they are lazy.

        Files are then read to the card, and a later selection reads only what it names.
        """
        _device.check("cuda")
        view = self._on("cuda")
        return super().as_cupy() if view is None else view

    def as_numpy(self) -> Any:
        """Put the pixels on the host; files are then read there, and no card is needed."""
        view = self._on(None)
        return super().as_numpy() if view is None else view

    def _on(self, device: str | None) -> xr.DataArray | None:
        """Read on a device, None where the data are no mere view of files."""
        files = files_of(self.da.variable._data)
        if files is None:
            return None
        there = (files.device is None) == (device is None)
        copy: xr.DataArray = self.da.copy(deep=False, data=None if there else files.on(device))
        return copy


class _OfDataset(CupyDatasetAccessor):  # type: ignore[misc]
    """``.cupy`` of a Dataset: the variables as above, the coordinates as they are."""

    def as_cupy(self) -> xr.Dataset:
        """Put all variables on the graphics card."""
        ds: xr.Dataset = self.ds
        return ds.assign({name: da.cupy.as_cupy() for name, da in ds.data_vars.items()})

    def as_numpy(self) -> xr.Dataset:
        """Put all variables on the host."""
        ds: xr.Dataset = self.ds
        return ds.assign(
            {name: da.cupy.as_numpy() for name, da in ds.data_vars.items() if da.cupy.is_cupy}
        )


def accessor_of(data: xr.DataArray | xr.Dataset) -> _OfDataArray | _OfDataset:
    """Make the accessor of an object."""
    return _OfDataset(data) if isinstance(data, xr.Dataset) else _OfDataArray(data)

"""What all methods of ``ds.tiffstack`` work on."""

from __future__ import annotations

import xarray as xr


class Data:
    """The Dataset that an accessor belongs to."""

    def __init__(self, data: xr.Dataset | xr.DataArray) -> None:
        """Keep the data; a DataArray is taken for the variable ``image`` of a Dataset."""
        if isinstance(data, xr.DataArray):
            data = data.to_dataset(name="image")
        self._dataset = data

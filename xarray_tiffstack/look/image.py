"""Which variable of a Dataset holds the pixels, and what its attributes remember."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr


def image_of(ds: xr.Dataset) -> xr.DataArray:
    """Find the variable that holds the pixels, whatever it was renamed to."""
    images = [v for v in ds.data_vars.values() if {"y", "x"} <= set(v.dims)]
    if "image" in ds.data_vars or not images:
        return ds["image"]
    return images[0]


def plain(ds: xr.Dataset) -> xr.Dataset:
    """Call the pixels ``image``, whatever they were renamed to, and leave out what is beside."""
    return image_of(ds).to_dataset(name="image")


def source_of(ds: xr.Dataset) -> str:
    """Folder of the files, as the Dataset or its image remembers it."""
    variables = [v.attrs["source"] for v in ds.data_vars.values() if "source" in v.attrs]
    return str(ds.attrs.get("source") or (variables[0] if variables else ""))


def noted(ds: xr.Dataset, name: str) -> list[str]:
    """List that the Dataset keeps among its attributes as text, a line each item.

    Stores that were made before hold lists.
    """
    items = ds.attrs.get(name, [])
    if isinstance(items, str):
        return items.split("\n")
    return [str(item) for item in np.atleast_1d(items).tolist()]

"""A Dataset written as OME-Zarr: planned, converted block by block, resumed, and verified."""

from xarray_tiffstack.ome_zarr.convert import Summary, to_ome_zarr, verify
from xarray_tiffstack.ome_zarr.job import Difference, Failure, VerifyResult

__all__ = ["Difference", "Failure", "Summary", "VerifyResult", "to_ome_zarr", "verify"]

"""A Dataset written as OME-Zarr: planned, converted block by block, resumed, and verified."""

from xarray_tiffstack.ome_zarr.convert import to_ome_zarr, verify
from xarray_tiffstack.ome_zarr.results import (
    Difference,
    Failure,
    Kept,
    Proof,
    Summary,
    VerifyResult,
)

__all__ = [
    "Difference",
    "Failure",
    "Kept",
    "Proof",
    "Summary",
    "VerifyResult",
    "to_ome_zarr",
    "verify",
]

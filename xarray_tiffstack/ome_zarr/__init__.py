"""A Dataset written as OME-Zarr: planned, converted block by block, resumed, and verified."""

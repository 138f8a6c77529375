"""One TIFF file: which array it holds, how a region of it is read, and what it says of its scale.

Nothing here knows about names, grids, dask or xarray.
"""

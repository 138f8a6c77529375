"""Many files as one lazy array.

All use of private names of xarray and dask is in this folder.
"""

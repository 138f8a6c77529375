"""One TIFF file: which array it holds, how a region of it is read, and what it says of its scale.

Nothing here knows about names, grids, dask or xarray.
"""

from xarray_tiffstack.tiff.lattice_settings import read_settings
from xarray_tiffstack.tiff.reading import Layout, metadata, probe, read

__all__ = ["Layout", "metadata", "probe", "read", "read_settings"]

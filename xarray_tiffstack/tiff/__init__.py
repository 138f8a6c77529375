"""One TIFF file: which array it holds, how a region of it is read, and what it says of its scale.

Nothing here knows about names, grids, dask or xarray. `recheck` reads a file a second way, to
verify what was read the first way. `anatomy` finds which bytes of a file its pixels give back.
"""

from xarray_tiffstack.tiff.lattice_settings import read_settings
from xarray_tiffstack.tiff.ranges import Ranges, Storage, ranges
from xarray_tiffstack.tiff.reading import Layout, probe, read, survey
from xarray_tiffstack.tiff.recheck import recheck
from xarray_tiffstack.tiff.scale import Metadata, differences, metadata

__all__ = [
    "Layout",
    "Metadata",
    "Ranges",
    "Storage",
    "differences",
    "metadata",
    "probe",
    "ranges",
    "read",
    "read_settings",
    "recheck",
    "survey",
]

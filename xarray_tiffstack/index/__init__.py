"""A Dataset as a virtual OME-Zarr: labels and levels, and references to the bytes of its files.

Nothing is copied but what no codec of Zarr can read. `references` finds the ranges, `template`
makes what a conversion would write, `ice` and `kerchunk` write it, and `files` remembers in which
state the files were. `manifests` gives references to VirtualiZarr instead.
"""

from xarray_tiffstack.index.manifests import virtual
from xarray_tiffstack.index.open import check_index, open_index
from xarray_tiffstack.index.renew import Renewed, renew_index
from xarray_tiffstack.index.write import Indexed, to_virtual

__all__ = [
    "Indexed",
    "Renewed",
    "check_index",
    "open_index",
    "renew_index",
    "to_virtual",
    "virtual",
]

"""Where files are, on a disk or at a URL: their sizes, whether they changed, and their bytes.

Nothing here knows what is in a file. obstore, which reads URLs, is imported when the first URL is
read.
"""

from xarray_tiffstack.storage.access import Access, access_of
from xarray_tiffstack.storage.address import is_url, joined, local_path, split
from xarray_tiffstack.storage.files import is_index, is_store, looks, sizes, states
from xarray_tiffstack.storage.listing import dated, list_url, texts_in
from xarray_tiffstack.storage.remote import MOST_REQUESTS, ChangedError, Remote, all_bytes, together

__all__ = [
    "MOST_REQUESTS",
    "Access",
    "ChangedError",
    "Remote",
    "access_of",
    "all_bytes",
    "dated",
    "is_index",
    "is_store",
    "is_url",
    "joined",
    "list_url",
    "local_path",
    "looks",
    "sizes",
    "split",
    "states",
    "texts_in",
    "together",
]

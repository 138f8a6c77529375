"""Open a folder of microscopy TIFFs by the names of its files, as one labelled, lazy array.

The entry point is ``xarray.open_dataset("raw/", engine="tiffstack")``; it needs no import of this
package. What is here is for those who want one step alone: the file table (`scan`), how names are
read (`Pattern`), the naming conventions that are known (`Convention`, `Token`, `conventions`,
`load_conventions`), a folder that is still being written (`follow`), the way back from a store to
its files (`restore`), a virtual Zarr of a folder (`open_index`, `check_index`, `renew_index`,
`follow_index`), and the types of what these and methods give (`Report`, `Summary`, `Failure`,
`Kept`, `VerifyResult`, `Difference`, `Proof`, `Restored`, `Exported`, `Indexed`, `Renewed`).

Importing it registers ``.tiffstack`` on every Dataset and DataArray.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import xarray_tiffstack.accessor  # noqa: F401 - registers ds.tiffstack

if TYPE_CHECKING:
    from xarray_tiffstack.back import Exported as Exported
    from xarray_tiffstack.back import Restored as Restored
    from xarray_tiffstack.back import restore as restore
    from xarray_tiffstack.index import Indexed as Indexed
    from xarray_tiffstack.index import Renewed as Renewed
    from xarray_tiffstack.index import check_index as check_index
    from xarray_tiffstack.index import open_index as open_index
    from xarray_tiffstack.index import renew_index as renew_index
    from xarray_tiffstack.look.report import Report as Report
    from xarray_tiffstack.names.conventions import Convention as Convention
    from xarray_tiffstack.names.conventions import conventions as conventions
    from xarray_tiffstack.names.conventions import load_conventions as load_conventions
    from xarray_tiffstack.names.pattern import Pattern as Pattern
    from xarray_tiffstack.names.vocabulary import Token as Token
    from xarray_tiffstack.ome_zarr import Difference as Difference
    from xarray_tiffstack.ome_zarr import Failure as Failure
    from xarray_tiffstack.ome_zarr import Kept as Kept
    from xarray_tiffstack.ome_zarr import Proof as Proof
    from xarray_tiffstack.ome_zarr import Summary as Summary
    from xarray_tiffstack.ome_zarr import VerifyResult as VerifyResult
    from xarray_tiffstack.table import scan as scan
    from xarray_tiffstack.watch import follow as follow
    from xarray_tiffstack.watch import follow_index as follow_index

__version__ = "0.1.0"

# Imported when first asked for: xarray loads this package's entry point with every other
# engine's, and `import xarray` must stay fast.
_MODULES = {
    "Convention": "names.conventions",
    "Difference": "ome_zarr",
    "Exported": "back.export",
    "Failure": "ome_zarr",
    "Indexed": "index",
    "Kept": "ome_zarr",
    "Pattern": "names.pattern",
    "Proof": "ome_zarr",
    "Renewed": "index",
    "Report": "look.report",
    "Restored": "back.writing",
    "Summary": "ome_zarr",
    "Token": "names.vocabulary",
    "VerifyResult": "ome_zarr",
    "check_index": "index",
    "conventions": "names.conventions",
    "follow": "watch",
    "follow_index": "watch",
    "load_conventions": "names.conventions",
    "open_index": "index",
    "renew_index": "index",
    "restore": "back.writing",
    "scan": "table",
}
__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])

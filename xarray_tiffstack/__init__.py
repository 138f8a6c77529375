"""Open a folder of microscopy TIFFs by the names of its files, as one labelled, lazy array.

The door is ``xarray.open_dataset("raw/", engine="tiffstack")``; it needs no import of this
package. What stands here is for those who want a step of the way: the file table (`scan`), how
names are read (`Pattern`), and the naming conventions that are known (`Convention`,
`conventions`, `load_conventions`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xarray_tiffstack.names.conventions import Convention as Convention
    from xarray_tiffstack.names.conventions import conventions as conventions
    from xarray_tiffstack.names.conventions import load_conventions as load_conventions
    from xarray_tiffstack.names.pattern import Pattern as Pattern
    from xarray_tiffstack.table import scan as scan

__version__ = "0.1.0"

# Imported when first asked for: xarray loads this package's entry point with every other
# engine's, and `import xarray` must stay fast.
_HOME = {
    "Convention": "names.conventions",
    "Pattern": "names.pattern",
    "conventions": "names.conventions",
    "load_conventions": "names.conventions",
    "scan": "table",
}
__all__ = ["Convention", "Pattern", "conventions", "load_conventions", "scan"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])

"""The keywords of opening: which files, and how they are placed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from xarray_tiffstack.array import device as _device
from xarray_tiffstack.messages import one_of
from xarray_tiffstack.storage import Access

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from xarray_tiffstack.names.conventions import Convention
    from xarray_tiffstack.names.pattern import Pattern


@dataclass(frozen=True)
class Options:
    """Which files are opened and how they are placed; documented at `backend`."""

    pattern: str | Pattern | Convention | None = None
    missing: Literal["fill", "raise"] = "fill"
    duplicates: Literal["raise", "first", "last", "position"] = "raise"
    unmatched: Literal["warn", "ignore", "raise"] = "warn"
    fill_value: float = 0
    voxel_size: float | Sequence[float] | Mapping[str, float] | None = None
    mosaic: bool | Mapping[str, str] | pd.DataFrame = False
    overlap: float | Mapping[str, float] = 0
    pages: str | None = None
    validate: Literal["headers"] | None = None
    device: str | None = None
    storage_options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuse what no keyword accepts."""
        one_of("missing", self.missing, ("fill", "raise"))
        one_of("duplicates", self.duplicates, ("raise", "first", "last", "position"))
        one_of("unmatched", self.unmatched, ("warn", "ignore", "raise"))
        one_of("validate", self.validate, (None, "headers"))
        if self.pages is not None and (not isinstance(self.pages, str) or self.pages in "yx"):
            raise ValueError(
                f"pages must be the name of a dimension, such as 'z' or 'time', not {self.pages!r}"
            )
        object.__setattr__(self, "device", _device.check(self.device))

    @property
    def access(self) -> Access | None:
        """How URLs are reached; None where nothing was said."""
        return None if self.storage_options is None else Access(self.storage_options)

    def pages_of(self, convention: Convention | None) -> str | None:
        """Say what the pages of a file are, where the file does not; None where nothing says."""
        return self.pages or (convention.pages if convention is not None else None)

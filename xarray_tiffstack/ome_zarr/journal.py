"""Which blocks of a store are finished: one entry a block, written when its pixels are.

The journal is a small Zarr array a pass in the group ``tiffstack`` of the store, one chunk a block,
so that any store writes an entry entirely or not at all. An entry says of which state of the files
it was made, how many slots could not be read, the display limits, and a checksum a level.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xarray_tiffstack.ome_zarr.pixels import Target
    from xarray_tiffstack.ome_zarr.plan import Block, Plan

NOTES = "tiffstack"  # group, and attribute of the root, of what this program knows of a store
FIELDS = ("source", "failed", "low", "high")  # of an entry, before a checksum a level


class Journal:
    """Entries of all blocks of a store."""

    def __init__(self, plan: Plan, target: Target, mode: Literal["r", "r+"]) -> None:
        self.plan = plan
        self._arrays: list[Any] = [
            zarr.open_array(target, path=path_of(step), mode=mode)
            for step in range(len(plan.passes))
        ]
        self._noted = [np.full(array.shape, np.nan) for array in self._arrays]

    def read(self) -> list[np.ndarray]:
        """Entries of each pass; NaN where a block is not finished, or its entry is damaged.

        Those that were all noted here are not asked for: in the cloud each is a request.
        """
        return [
            noted.copy() if not np.isnan(noted[..., 0]).any() else self._read(array)
            for noted, array in zip(self._noted, self._arrays, strict=True)
        ]

    def _read(self, array: Any) -> np.ndarray:
        try:
            entries: np.ndarray = array[...]
        except Exception:  # a power failure leaves entries that are empty, or cut short
            entries = np.full(array.shape, np.nan)
            for at in np.ndindex(array.shape[:-1]):
                with suppress(Exception):
                    entries[at] = array[at]
        # Zeros are what a file system leaves where the end of a file never came to the disk: the
        # checksum of no pixels is 0.
        entries[~entries.any(axis=-1)] = np.nan
        return entries

    def note(self, block: Block, entry: Sequence[float]) -> None:
        """Note that a block is finished."""
        self._arrays[block.step][block.entry] = entry
        self._noted[block.step][block.entry] = entry


def finished(entries: Sequence[np.ndarray], block: Block) -> bool:
    """Whether a block is finished, and holds all of its files."""
    return bool(entries[block.step][block.entry][1] == 0)


def path_of(step: int) -> str:
    """Path of the entries of a pass."""
    return f"{NOTES}/pass{step}/entries"

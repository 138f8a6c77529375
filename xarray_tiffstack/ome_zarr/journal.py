"""Which blocks of a store are finished: one entry a block, written when its pixels are.

The journal is a small Zarr array a pass in the group ``tiffstack`` of the store, one chunk a block,
so that any store writes an entry entirely or not at all. An entry says of which state of the files
it was made, how many slots could not be read, the display limits, and a checksum a level. Beside
those of the first pass is a text for each block with such slots, which says why: whoever finishes
the store need not be the one who read them.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr

from xarray_tiffstack.ome_zarr.metadata import zarr_format
from xarray_tiffstack.ome_zarr.pixels import arrived, open_pixels
from xarray_tiffstack.ome_zarr.results import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from xarray_tiffstack.ome_zarr.images import Slot
    from xarray_tiffstack.ome_zarr.pixels import Target
    from xarray_tiffstack.ome_zarr.plan import Block, Plan

NOTES = "tiffstack"  # group, and attribute of the root, of what this program knows of a store
REASONS = f"{NOTES}/pass0/reasons"  # path of the texts that say why slots could not be read
FIELDS = ("source", "failed", "low", "high")  # of an entry, before a checksum a level


class Journal:
    """Entries of all blocks of a store."""

    def __init__(self, plan: Plan, target: Target, mode: Literal["r", "r+"]) -> None:
        self.plan = plan
        self._at = target, mode
        form = zarr_format(plan.settings.ngff_version)  # else zarr asks for both
        self.driver = "zarr3" if form == 3 else "zarr"
        self._arrays: list[Any] = [
            zarr.open_array(target, path=path_of(step), mode=mode, zarr_format=form)
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
            return _known(np.asarray(array[...]))
        except Exception:  # a power failure leaves entries that are empty, or cut short
            entries = np.full(array.shape, np.nan)
            for at in np.ndindex(array.shape[:-1]):
                with suppress(Exception):
                    entries[at] = array[at]
            return _known(entries)

    def entry(self, block: Block) -> np.ndarray:
        """Entry of one block, as `read` gives it."""
        array = self._arrays[block.step]
        try:
            return _known(np.asarray(array[block.entry]))
        except Exception:
            return np.full(array.shape[-1], np.nan)

    def note(
        self, block: Block, entry: Sequence[float], failures: Mapping[Slot, Failure] | None = None
    ) -> None:
        """Note that a block is finished, and first of all why files of it could not be read."""
        if failures:
            lines = [[slot, failure.path, failure.error] for slot, failure in failures.items()]
            self._reasons[block.entry] = json.dumps(lines)
        region = (*(slice(i, i + 1) for i in block.entry), slice(0, len(entry)))
        noted = self._noted[block.step]
        noted[block.entry] = entry
        self._writers[block.step][region] = noted[region]
        arrived()

    def forget(self, blocks: Sequence[Block]) -> None:
        """Have blocks be unfinished, as if they had never been written."""
        for block in blocks:
            if not block.step:
                self._reasons[block.entry] = ""
            self._arrays[block.step][block.entry] = np.nan
            self._noted[block.step][block.entry] = np.nan

    def failures(self, entries: Sequence[np.ndarray]) -> dict[Slot, Failure]:
        """Slots that could not be read, of the blocks that have such."""
        found = {}
        for at in map(tuple, np.argwhere(entries[0][..., 1] > 0).tolist()):
            for slot, path, error in json.loads(self.reason(at) or "[]"):
                found[tuple(slot)] = Failure(path, error)
        return found

    def left(self, blocks: Iterable[Block]) -> list[Block]:
        """Blocks that are not written, as far as all processes have told by now.

        One whose files could not be read is written if it is said why: else somebody is about to
        try it again.
        """
        entries = self.read()
        return [
            block
            for block in blocks
            if np.isnan(failed := entries[block.step][block.entry][1])
            or (failed and not block.step and not self.reason(block.entry))
        ]

    def reason(self, entry: tuple[int, ...]) -> str:
        """Text of a block of the first pass; empty where there is none."""
        return str(self._reasons[entry])

    @cached_property
    def _writers(self) -> list[Any]:
        """Arrays of entries, in the cloud by tensorstore, whose requests cost less."""
        target = self._at[0]
        if isinstance(target, Path):
            return self._arrays
        return [
            open_pixels(target, path_of(step), self.driver) for step in range(len(self._arrays))
        ]

    @cached_property
    def _reasons(self) -> Any:
        """Texts of all blocks, which are needed where a file could not be read."""
        target, mode = self._at
        return zarr.open_array(target, path=REASONS, mode=mode)


def _known(entries: np.ndarray) -> np.ndarray:
    """Take entries of zeros for none.

    They are what a file system leaves where the end of a file never came to the disk: the checksum
    of no pixels is 0.
    """
    return np.where(entries.any(axis=-1, keepdims=True), entries, np.nan)


def finished(entries: Sequence[np.ndarray], block: Block) -> bool:
    """Whether a block is finished, and holds all of its files."""
    return bool(entries[block.step][block.entry][1] == 0)


def path_of(step: int) -> str:
    """Path of the entries of a pass."""
    return f"{NOTES}/pass{step}/entries"

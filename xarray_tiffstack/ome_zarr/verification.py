"""Whether a store holds the pixels of its source: by checksums, and where not, chunk by chunk."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr

from xarray_tiffstack.ome_zarr.journal import FIELDS, path_of
from xarray_tiffstack.ome_zarr.pixels import met
from xarray_tiffstack.ome_zarr.progress import bar
from xarray_tiffstack.ome_zarr.results import Difference, VerifyResult
from xarray_tiffstack.ome_zarr.source import without_broken
from xarray_tiffstack.ome_zarr.writer import PROCESSORS, run, summed
from xarray_tiffstack.storage import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from xarray_tiffstack.ome_zarr.images import Slot
    from xarray_tiffstack.ome_zarr.plan import Block
    from xarray_tiffstack.ome_zarr.progress import Shown
    from xarray_tiffstack.ome_zarr.store import Store

# Reads the files of a slot a second way: their paths, and the stored pixels along the dimensions
# that a file has, lazily; says what differs, or None.
Recheck: TypeAlias = "Callable[[Sequence[str], xr.DataArray], str | None]"


def verify_store(
    store: Store,
    workers: int | None,
    progress: Shown,
    *,
    source: bool,
    recheck: Recheck | None = None,
) -> VerifyResult:
    """Compare all blocks with their checksums, and with the source where that is asked for."""
    plan = store.plan
    entries = store.journal.read()
    found: dict[Block, list[Difference]] = {}
    checker = _Checker(store, entries, source)
    total = sum(map(plan.nbytes, plan.blocks))
    with (
        bar("verified", total, progress) as advance,
        closing(run(plan.blocks, checker.check, workers)) as done,
    ):
        for block, differences in done:
            found[block] = differences
            advance(plan.nbytes(block))
    checked, wrong = _recheck(store, recheck, workers) if recheck is not None else (0, {})
    for slot, difference in wrong.items():
        for block in plan.blocks:
            if block.step == 0 and slot in plan.slots_of(block):
                found[block].append(difference)
    every = sorted({d for each in found.values() for d in each}, key=lambda d: d.place)
    result = VerifyResult(len(plan.blocks), tuple(every), checked)
    damaged = [[b.step, b.entry] for b in plan.blocks if found[b]]
    _keep(store, result, damaged)
    return result


def _keep(store: Store, result: VerifyResult, damaged: list[Any]) -> None:
    """Note the outcome in the store, where that may be written; the next conversion repairs."""
    notes = json.loads(json.dumps({"verified": asdict(result), "damaged": damaged}))
    try:
        store.note(**notes)
    except (OSError, ValueError):
        if os.access(str(store.target), os.W_OK):
            raise


class _Checker:
    """Compares blocks; in any thread."""

    def __init__(self, store: Store, entries: Sequence[np.ndarray], source: bool) -> None:
        self.plan, self.levels = store.plan, store.levels
        self.entries, self.source = entries, source

    def check(self, block: Block) -> list[Difference]:
        """Compare one block."""
        files = tuple(self.plan.files(block))
        entry = f"{path_of(block.step)}, block {block.entry}"
        sums = self.entries[block.step][block.entry][len(FIELDS) :]
        if np.isnan(sums).any():
            return [Difference(entry, files, "was never finished")]
        if self.source and not block.step:
            found = without_broken(
                lambda broken: summed(p for _, p in self.levels.fine(block, broken))
            )
            if found != sums[0]:
                return [Difference(", ".join(files) or "the source", files, "its pixels changed")]
        writes = self.plan.passes[block.step].writes
        bad = [
            level
            for level, expected in zip(writes, sums, strict=True)
            if self._stored(block, level) != expected
        ]
        if not bad:
            return []
        located = without_broken(lambda broken: list(self._locate(block, bad, broken)))
        return located or [Difference(entry, files, "another checksum, though no other pixels")]

    def _stored(self, block: Block, level: int) -> int | None:
        """Checksum of what the store holds; None where it cannot be decoded."""
        array = self.levels.array(block, level)
        pieces = self.plan.pieces(self.plan.region(block, level), self.plan.settings.unit(level))
        try:
            return summed(array[tuple(piece.values())] for piece in pieces)
        except Exception:  # a damaged chunk can raise anything
            return None

    def _locate(self, block: Block, bad: Sequence[int], broken: set[Slot]) -> Iterator[Difference]:
        """Find which stored objects of some levels of a block differ."""
        files = tuple(self.plan.files(block))
        settings = self.plan.settings
        prefix = "/c/" if settings.ngff_version == "0.5" else "/"
        for level, region, pixels in self.levels.made(block, broken):
            if level not in bad:
                continue
            path = f"{self.plan.images[block.image].group(level)}/image"
            for index, inside in met(tuple(region.values()), tuple(settings.unit(level).values())):
                at = tuple(
                    slice(along.start + s.start, along.start + s.stop)
                    for along, s in zip(region.values(), inside, strict=True)
                )
                if reason := self._reason(block, level, at, pixels[inside]):
                    key = "/".join(map(str, index))
                    yield Difference(f"{path}{prefix}{key}", files, reason)

    def _reason(
        self, block: Block, level: int, at: tuple[slice, ...], pixels: np.ndarray
    ) -> str | None:
        """Say what is wrong with a stored object, if something is."""
        try:
            stored = self.levels.array(block, level)[at]
        except Exception as error:
            return f"cannot be decoded: {error}"
        same = np.array_equal(stored, pixels, equal_nan=stored.dtype.kind in "fc")
        return None if same else "other pixels"


def _recheck(
    store: Store, recheck: Recheck, workers: int | None
) -> tuple[int, dict[Slot, Difference]]:
    """Read files a second way, and compare with what is stored: how many, and what differs."""
    plan, collection = store.plan, store.plan.collection
    failed = {failure["path"] for failure in store.notes.get("failed", ())}
    images = {
        slot: plan.images[block.image]
        for block in plan.blocks
        if block.step == 0
        for slot in plan.slots_of(block)
    }
    readable = [slot for slot in images if ", ".join(plan.paths([slot])) not in {"", *failed}]
    stored = {
        path: xr.open_zarr(store.target, group=path, consolidated=False, chunks=None)["image"]
        for path in {images[slot].group(0) for slot in readable}
    }

    def check(slot: Slot) -> str | None:
        at = dict(zip(collection.slot_dims, slot, strict=True))
        pixels = stored[images[slot].group(0)].isel(at, missing_dims="ignore")
        pixels = pixels.transpose(*(d for d in collection.dims if d in pixels.dims))
        return recheck([joined(collection.source, p) for p in plan.paths([slot])], pixels)

    with ThreadPoolExecutor(workers or PROCESSORS) as pool:
        reasons = zip(readable, pool.map(check, readable), strict=True)
        names = {slot: tuple(plan.paths([slot])) for slot in readable}
        return len(readable), {
            slot: Difference(", ".join(names[slot]), names[slot], reason)
            for slot, reason in reasons
            if reason
        }

"""Whether a store holds the pixels of its source: by checksums, and where not, chunk by chunk."""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import xarray as xr

from xarray_tiffstack.messages import unreadable
from xarray_tiffstack.ome_zarr.journal import FIELDS, path_of
from xarray_tiffstack.ome_zarr.metadata import zarr_format
from xarray_tiffstack.ome_zarr.outcomes import put_together
from xarray_tiffstack.ome_zarr.pixels import met
from xarray_tiffstack.ome_zarr.pool import Pool, run
from xarray_tiffstack.ome_zarr.progress import bar
from xarray_tiffstack.ome_zarr.results import Difference, VerifyResult
from xarray_tiffstack.ome_zarr.source import without_broken
from xarray_tiffstack.ome_zarr.task import Task
from xarray_tiffstack.ome_zarr.writer import summed
from xarray_tiffstack.storage import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from xarray_tiffstack.ome_zarr.images import Slot
    from xarray_tiffstack.ome_zarr.parts import Part
    from xarray_tiffstack.ome_zarr.plan import Block
    from xarray_tiffstack.ome_zarr.progress import Shown
    from xarray_tiffstack.ome_zarr.source import Broken
    from xarray_tiffstack.ome_zarr.store import Store

# Reads the files of a slot a second way: their paths, and the stored pixels along the dimensions
# that a file has, lazily; says what differs, or None.
Recheck: TypeAlias = "Callable[[Sequence[str], xr.DataArray], str | None]"


def verify_store(
    store: Store,
    pool: Pool,
    progress: Shown,
    *,
    source: bool,
    recheck: Recheck | None = None,
    part: Part | None = None,
) -> VerifyResult:
    """Compare all blocks with their checksums, and with the source where that is asked for.

    A part compares its own ones; the last one puts the outcomes of all together.
    """
    plan = store.plan
    blocks = plan.blocks if part is None else part.share(plan.blocks, plan)
    found: dict[Block, list[Difference]] = {}
    check = Task(partial(_check, source=source), store)
    total = sum(map(plan.nbytes, blocks))
    with (
        bar("verified", total, progress) as advance,
        closing(run(blocks, check, pool, plan.files)) as done,
    ):
        for block, differences in done:
            found[block] = differences
            advance(plan.nbytes(block))
    checked, wrong = _recheck(store, blocks, recheck, pool) if recheck is not None else (0, {})
    for slot, difference in wrong.items():
        for block in plan.blocks:
            if block.step == 0 and slot in plan.slots_of(block):
                found.setdefault(block, []).append(difference)
    every = sorted({d for each in found.values() for d in each}, key=lambda d: d.place)
    result = VerifyResult(len(blocks), tuple(every), checked)
    damaged = [[b.step, b.entry] for b in plan.blocks if found.get(b)]
    outcome = json.loads(json.dumps({"verified": result.as_dict(), "damaged": damaged}))
    try:
        if part is not None:
            return put_together(store, part, result, outcome)
        store.note(**outcome)  # the next conversion repairs
    except (OSError, ValueError):
        if os.access(str(store.target), os.W_OK):
            raise
    return result if part is None else replace(result, part=(part.number, part.of))


def _check(store: Store, block: Block, source: bool) -> list[Difference]:
    """Compare one block."""
    return _Checker(store, source).check(block)


class _Checker:
    """Compares blocks; in any thread."""

    def __init__(self, store: Store, source: bool) -> None:
        self.plan, self.levels, self.journal = store.plan, store.levels, store.journal
        self.source = source

    def check(self, block: Block) -> list[Difference]:
        """Compare one block."""
        files = tuple(self.plan.files(block))
        entry = f"{path_of(block.step)}, block {block.entry}"
        sums = self.journal.entry(block)[len(FIELDS) :]
        if np.isnan(sums).any():
            return [Difference(entry, files, "was never finished")]
        if self.source and not block.step:
            self.levels.source.fingerprint(block)  # else bytes of a URL that are kept might be old
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
        pieces = self.plan.pieces(self.plan.region(block, level), self.plan.settings.unit(level))
        try:
            array = self.levels.array(block, level)
            return summed(array[tuple(piece.values())] for piece in pieces)
        except Exception:  # a damaged chunk, or what describes the array, can raise anything
            return None

    def _locate(self, block: Block, bad: Sequence[int], broken: Broken) -> Iterator[Difference]:
        """Find which stored objects of some levels of a block differ."""
        files = tuple(self.plan.files(block))
        settings = self.plan.settings
        prefix = "/c/" if zarr_format(settings.ngff_version) == 3 else "/"
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
            return unreadable(error)
        same = np.array_equal(stored, pixels, equal_nan=stored.dtype.kind in "fc")
        return None if same else "other pixels"


def _recheck(
    store: Store, blocks: Sequence[Block], recheck: Recheck, pool: Pool
) -> tuple[int, dict[Slot, Difference]]:
    """Read the files that begin in some blocks a second way: how many, and what differs."""
    plan = store.plan
    unread = {"", *(failure["path"] for failure in store.notes.get("failed", ()))}
    first: dict[Slot, Block] = {}
    for block in plan.blocks:
        for slot in plan.slots_of(block) if block.step == 0 else ():
            first.setdefault(slot, block)
    own = set(blocks)
    readable = [
        (slot, block.image)
        for slot, block in first.items()
        if block in own and ", ".join(plan.paths([slot])) not in unread
    ]
    check = Task(_Recheck(recheck), store)
    names = {slot: tuple(plan.paths([slot])) for slot, _ in readable}
    with closing(run(readable, check, pool, lambda item: list(names[item[0]]))) as done:
        return len(readable), {
            slot: Difference(", ".join(names[slot]), names[slot], reason)
            for (slot, _), reason in done
            if reason
        }


class _Recheck:
    """Reads the files of slots a second way; in any process, where each opens an image once."""

    def __init__(self, recheck: Recheck) -> None:
        self.recheck = recheck
        self.stored: dict[int, xr.DataArray] = {}

    def __call__(self, store: Store, item: tuple[Slot, int]) -> str | None:
        """Say what differs of a slot, which an image has."""
        (slot, image), plan = item, store.plan
        collection = plan.collection
        if image not in self.stored:
            group = plan.images[image].group(0)
            try:
                opened = xr.open_zarr(store.target, group=group, consolidated=False, chunks=None)
            except Exception as error:  # of damaged metadata or labels, whatever reads them
                return f"{group} of the store {unreadable(error)}"
            self.stored[image] = opened["image"]
        at = dict(zip(collection.slot_dims, slot, strict=True))
        pixels = self.stored[image].isel(at, missing_dims="ignore")
        pixels = pixels.transpose(*(d for d in collection.dims if d in pixels.dims))
        paths = [joined(collection.source, p) for p in plan.paths([slot])]
        return self.recheck(paths, pixels)

"""A store on its way: created, resumed after an interruption, and finished.

The attribute ``tiffstack`` of the root says what the store is made of, and by its ``state``
(``"preparing"``, ``"writing"``, ``"complete"``) how far it is; ``"complete"`` is the last thing
written. The settings are kept once more in the group ``tiffstack``, for the case that a power
failure damages the root.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr

from xarray_tiffstack.ome_zarr import metadata as ngff
from xarray_tiffstack.ome_zarr import place
from xarray_tiffstack.ome_zarr.decision import decide
from xarray_tiffstack.ome_zarr.documents import XML, Documents
from xarray_tiffstack.ome_zarr.journal import NOTES, REASONS, Journal, finished
from xarray_tiffstack.ome_zarr.notes import is_begun, read_notes
from xarray_tiffstack.ome_zarr.outcomes import forget
from xarray_tiffstack.ome_zarr.pixels import PARTIAL, Arrays, Target
from xarray_tiffstack.ome_zarr.plan import Block
from xarray_tiffstack.ome_zarr.source import Source
from xarray_tiffstack.ome_zarr.task import threads_here
from xarray_tiffstack.ome_zarr.writer import Levels, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from xarray_tiffstack.ome_zarr.images import Slot
    from xarray_tiffstack.ome_zarr.keeping import Keeper
    from xarray_tiffstack.ome_zarr.lease import Lease
    from xarray_tiffstack.ome_zarr.lock import Lock
    from xarray_tiffstack.ome_zarr.parts import Part
    from xarray_tiffstack.ome_zarr.plan import Plan
    from xarray_tiffstack.ome_zarr.results import Failure


class Store:
    """What is at a place, and what a plan makes of it.

    Parameters
    ----------
    plan
        What is converted.
    target
        Where to.
    engine
        ``"zarr"`` writes pixels with zarr even where tensorstore could.
    workers
        Threads.
    keeper
        Who keeps of the files what is not pixels.
    lock
        What keeps other conversions away; None in processes that have none.
    """

    def __init__(
        self,
        plan: Plan,
        target: Target,
        engine: str = "auto",
        workers: int | None = None,
        keeper: Keeper | None = None,
        lock: Lock | Lease | None = None,
    ) -> None:
        self.plan, self.target, self.engine, self.workers = plan, target, engine, workers
        self.keeper, self.lock = keeper, lock
        self.notes: dict[str, Any] = {}
        self.failed: dict[Slot, Failure] = {}
        self.part: Part | None = None
        self._made: dict[str, Any] = {}
        self._there: dict[str, bytes] = {}  # what this process wrote
        self.documents: Documents
        self.journal: Journal
        self.source: Source
        self.levels: Levels
        self.writer: Writer
        self._mode: Literal["r", "r+"] = "r+"

    def __reduce__(self) -> tuple[Any, ...]:
        """Have another process open it."""
        about = self.plan, self.target, self.engine, self.workers, self.keeper
        return _opened, (about, self.notes, self._mode)

    # -- beginning ------------------------------------------------------------------------

    def begin(self, overwrite: bool, growing: bool = False, join: bool = False) -> list[Block]:
        """Create the store, or resume it; returns the blocks that are not finished.

        With `join` other parts may be at work on it: nothing that is there is deleted or repaired.
        """
        notes = read_notes(self.target)
        decided = decide(self, notes, overwrite, lambda notes: self._resume(notes, join))
        if decided.outcome == "refuse":
            raise FileExistsError(decided.reason)
        if decided.outcome in ("create", "replace"):
            return self._create(growing, join and decided.outcome == "create")
        return decided.todo

    def _create(self, growing: bool, join: bool = False) -> list[Block]:
        """Write everything but pixels."""
        target = self.target
        if isinstance(target, Path) and self.part is None:
            place.clear(target)
        if not isinstance(target, Path) or (target.is_dir() and not join):
            if self.part is not None and self.is_begun():
                raise FileExistsError(f"another part began {target} meanwhile")
            place.remove(target, self.plan)
        self._document(growing)
        self.documents.create()
        self._tell({}, self._begun(growing), levels=growing)
        self._there = place.create(target, self._files(), growing)
        self.open()
        return list(self.plan.blocks)

    def _begun(self, growing: bool) -> dict[str, Any]:
        settings = asdict(self.plan.settings)
        notes: dict[str, Any] = {"state": "writing", "settings": settings}
        if growing:
            notes |= {"growing": True, "source": self.plan.collection.source}
        return notes

    def _document(self, growing: bool, old: zarr.Group | None = None) -> None:
        """Make the documents in memory, where zarr is quick with many small ones."""
        self._made = {}
        store = zarr.storage.MemoryStore(self._made)
        self.documents = Documents(self.plan, store, growing, old)

    def _tell(
        self, limits: Mapping[int, tuple[float, float]], notes: dict[str, Any], levels: bool
    ) -> None:
        """Describe all images, gather the metadata, and last of all say how far it is."""
        described = self.documents.describe(limits)
        self.documents.consolidate(levels)
        self.documents.root.update_attributes({**described, NOTES: notes})
        self.notes = notes

    def _files(self) -> list[tuple[str, bytes]]:
        """Files of the store in the order of writing: a group after its members."""
        files = {key: data.to_bytes() for key, data in self._made.items()}
        if xml := ngff.ome_xml(self.plan.collection):
            files[XML] = xml
        return sorted(files.items(), key=lambda item: (-item[0].count("/"), item[0] == ".zattrs"))

    def open(self, mode: Literal["r", "r+"] = "r+") -> None:
        """Open what is there."""
        self._mode = mode
        self.journal = Journal(self.plan, self.target, mode)
        self.source = Source(self.plan)
        arrays = Arrays(self.plan, self.target, self.engine, self.workers)
        self.levels = Levels(self.plan, self.source, arrays)
        self.writer = Writer(self.levels, self.journal, self.target, self.keeper, self.require)

    def require(self, look: bool = False) -> None:
        """Go on only while no other conversion took over; with `look` it is asked for."""
        if self.lock is not None:
            self.lock.require(look)

    # -- resuming -------------------------------------------------------------------------

    def _resume(self, notes: dict[str, Any], join: bool) -> tuple[list[Block], list[str]]:
        """Repair what is there; returns blocks to write, and files that changed since."""
        self.notes = notes
        target = self.target
        if not join:
            if isinstance(target, Path) and self.part is None:
                place.clear(target)
                for partial in (p for name in PARTIAL for p in target.rglob(name)):
                    partial.unlink()
            self.remember(bool(notes.get("growing")))
            self.require_reasons()
            if isinstance(target, Path) and (damaged := list(self._damaged(target))):
                place.publish(target, damaged)
                self.notes = {**notes, "state": "writing"}  # what `finish` knows goes there again
        self.open()
        entries, todo, changed = self._left()
        if not changed:
            self._reopen([b for b in todo if not np.isnan(entries[b.step][b.entry]).all()], todo)
            if todo:
                forget(self)
        return todo, changed

    def _reopen(self, again: Sequence[Block], todo: Sequence[Block]) -> None:
        """Have blocks be unfinished that are written again, and with them the store."""
        damaged, redone = self.notes.get("damaged", ()), set(again)
        left = [each for each in damaged if Block.of(each) not in redone]
        self.journal.forget(again)
        if (todo and self.notes["state"] == "complete") or (self.part is not None and again):
            self.note(state="writing", **({"damaged": left} if self.part is not None else {}))

    def left(self, notes: dict[str, Any]) -> tuple[list[Block], list[str]]:
        """Blocks that resuming would write, and files that changed since; writes nothing."""
        self.notes = notes
        try:
            self.open("r")
            return self._left()[1:]
        except (KeyError, ValueError, OSError):  # damaged, and to be repaired
            return list(self.plan.blocks), []

    def _left(self) -> tuple[Sequence[np.ndarray], list[Block], list[str]]:
        """Entries of the journal, unfinished blocks, and files that changed since."""
        entries = self.journal.read()
        todo, kept = self.unfinished(entries)
        changed = self.source.changed(kept, [entries[b.step][b.entry][0] for b in kept])
        return entries, todo, changed

    def _damaged(self, target: Path) -> Iterator[tuple[str, bytes]]:
        """Files of a local store that a power failure took, cut short, or left as zeros.

        That they are otherwise others is no damage: labels may say of files that they could not
        be read, and attributes be a user's.
        """
        for key, data in self._files():
            path = target / key
            found = path.read_bytes() if path.is_file() else b""
            if path.name in place.METADATA:
                try:
                    json.loads(found)
                except ValueError:
                    yield key, data
            elif (not any(found) and any(data)) or (key == XML and found != data):
                yield key, data
            elif len(found) != len(data):
                array = re.sub(r"(/c)?/[0-9./]*$", "", key)
                try:
                    zarr.open_array(target, path=array, mode="r")[...]
                except Exception:  # whatever its codec says of it
                    yield key, data

    def remember(self, growing: bool) -> None:
        """Make the documents of a store that is there again."""
        try:
            old = zarr.open_group(self.target, mode="r")
        except (FileNotFoundError, ValueError):  # it is not there yet, or damaged
            old = None
        self._document(growing, old)
        self.documents.create()
        notes = {**self._begun(growing), **self.notes}
        self._tell({}, notes, levels=growing)

    def require_reasons(self) -> None:
        """Write where it is said why files could not be read: earlier versions did not."""
        reasons = dict(file for file in self._files() if file[0].startswith(f"{REASONS}/"))
        there = place.read(self.target, reasons)
        place.publish(self.target, [file for file in reasons.items() if file[0] not in there])

    def unfinished(self, entries: Sequence[np.ndarray]) -> tuple[list[Block], list[Block]]:
        """Blocks to write, and those that stay: damaged ones count, and what was made of them.

        A part writes only its own ones again.
        """
        blocks = self.plan.blocks
        own = blocks if self.part is None else self.part.share(blocks, self.plan)
        damaged = set(map(Block.of, self.notes.get("damaged", ())))
        again = [
            block
            for block in own
            if not np.isnan(entries[block.step][block.entry]).all()
            and (not finished(entries, block) or block in damaged)
        ]
        todo = {b for b in blocks if np.isnan(entries[b.step][b.entry]).all()}
        todo |= {*again, *self.plan.dependents(again)}
        return [b for b in blocks if b in todo], [b for b in own if b not in todo]

    def note(self, **notes: Any) -> None:
        """Write down something in the root, which keeps all else that it says."""
        self.notes = {**self.notes, **notes}
        root = zarr.open_group(self.target, mode="r+")  # with consolidated metadata if it has them
        root.update_attributes({NOTES: self.notes})

    # -- the end --------------------------------------------------------------------------

    def finish(self, state: Literal["writing", "complete"] = "complete") -> None:
        """Write what is known only now: display limits and failures; then that it is complete."""
        before, entries = self.notes, self.journal.read()
        self.failed = failed = self.journal.failures(entries)
        if before["state"] == "complete":
            return
        if self.keeper is not None:
            self.keeper.keep_others(self.target, self.plan)
        growing = bool(before.get("growing"))
        if failed or before.get("failed") or growing or state == "writing":
            self.documents.write_labels(failed)
        failures = sorted((asdict(f) for f in failed.values()), key=lambda f: f["path"])
        notes = {**before, "state": state, "failed": failures}
        notes["settings"] = asdict(self.plan.settings)
        for name in ("damaged", "verified", *(() if state == "writing" else ("growing", "source"))):
            if name != "damaged" or self.part is None or not notes.get(name):
                notes.pop(name, None)
        self._tell(self.limits(entries[0]), notes, levels=growing)
        files = [file for file in self._files() if self._there.get(file[0]) != file[1]]
        self.require(look=True)
        place.publish(self.target, files, sync=state == "complete")
        self._there |= dict(files)

    def limits(self, entries: np.ndarray) -> dict[int, tuple[float, float]]:
        """Intensities to display of each channel, from samples of its blocks."""
        samples = entries[..., 2:4]
        if self.plan.collection.channel == "channel":
            samples = np.moveaxis(samples, 1 + self.plan.axes.index("channel"), 0)
        else:
            samples = samples[None]
        samples = samples.reshape(len(samples), -1, 2)
        low = np.fmin.reduce(samples[..., 0], axis=1)
        high = np.fmax.reduce(samples[..., 1], axis=1)
        return {
            i: (float(a), float(b))
            for i, (a, b) in enumerate(zip(low, high, strict=True))
            if np.isfinite(a) and b > a
        }

    def is_begun(self) -> bool:
        """Whether blocks can be written to what is there."""
        return is_begun(read_notes(self.target))

    def finish_joined(self) -> None:
        """Finish what several parts have written, unless another one has done it."""
        self.notes = read_notes(self.target) or self.notes
        if not hasattr(self, "documents") and self.notes["state"] != "complete":
            self.remember(bool(self.notes.get("growing")))
        self.finish()

    def sweep(self) -> None:
        """Delete what killed processes left in a local store; what tensorstore left is used up."""
        if not isinstance(self.target, Path):
            return
        place.clear(self.target)
        every = self.engine == "zarr" or find_spec("tensorstore") is None
        for folder, folders, names in os.walk(self.target):
            if not every and os.path.basename(folder) == "image":  # chunks, of which there are many
                folders.clear()
            for name in names:
                if any(fnmatch(name, pattern) for pattern in PARTIAL):
                    os.unlink(os.path.join(folder, name))

    def failures(self) -> tuple[Failure, ...]:
        """Files that could not be read."""
        return tuple(sorted(self.failed.values(), key=lambda failure: failure.path))


def _opened(about: tuple[Any, ...], notes: dict[str, Any], mode: Literal["r", "r+"]) -> Store:
    """Open a store in another process, which is one of many on its machine."""
    plan, target, engine, workers, keeper = about
    store = Store(plan, target, engine, workers or threads_here(), keeper)
    store.notes = notes
    store.open(mode)
    return store

"""What a conversion keeps of the files beside their pixels: each file once, with its checksum."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xarray_tiffstack.back.folder import about, list_folder, read_span, sha256_of, there
from xarray_tiffstack.back.labels import REQUESTS
from xarray_tiffstack.back.records import Damaged, Entries, Entry, Record, entire
from xarray_tiffstack.messages import counted, first_lines
from xarray_tiffstack.ome_zarr.keeping import OTHERS, SLOTS
from xarray_tiffstack.ome_zarr.notes import read_notes
from xarray_tiffstack.ome_zarr.results import Kept
from xarray_tiffstack.source import below
from xarray_tiffstack.storage import is_url, split
from xarray_tiffstack.tiff.anatomy import anatomy, outlook

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from xarray_tiffstack.array.complete import CompleteFiles
    from xarray_tiffstack.ome_zarr.images import Slot
    from xarray_tiffstack.ome_zarr.pixels import Target
    from xarray_tiffstack.ome_zarr.plan import Block, Plan
    from xarray_tiffstack.tiff import Layout

WHOLE = 16 * 2**20
"""Bytes in total, of files that pixels do not give back and of others, that are kept unasked."""
_HEAD = 1 << 14  # bytes of the head of an entry, without tables and paths, at most
_LATE = "it came since the conversion began"
_NOT_BACK = "its pixels do not give its bytes back"


class _UnreadError(Exception):
    """A file cannot be read while its entry is written."""


class _Seen(NamedTuple):
    """What is expected of the file of a slot."""

    path: str
    size: int
    most: int
    """Bytes of its entry, at most."""
    reason: str
    """Why it has to be kept entirely; empty where that is not so."""


@dataclass
class Keeping:
    """Keeps of the files of a Dataset what is not pixels.

    Parameters
    ----------
    files
        The files, and what each holds.
    whole
        Whether files are kept entirely, however large, that pixels do not give back.
    """

    files: CompleteFiles
    whole: bool = False
    source: str = ""
    """Folder of the source."""
    inside: set[str] = field(default_factory=set)
    """Paths of the files of slots."""
    others: list[str] = field(default_factory=list)
    """Paths of the files in no slot that are kept."""
    left: dict[str, str] = field(default_factory=dict)
    """Paths of files that are not kept, and why."""
    places: dict[tuple[tuple[str, int], ...], str] = field(default_factory=dict)
    """Group of each image, by where it is."""
    most: int = 0
    """Bytes of all that is kept, at most."""
    _done: set[str] = field(default_factory=set, repr=False)  # paths of what this process kept
    _entries: dict[str, Entries] = field(default_factory=dict, repr=False)

    # -- before anything is written ---------------------------------------------------------

    def look(self, plan: Plan) -> dict[str, Any]:
        """Look at all files; see `Keeper`.

        Opens each file of the array, and reads its directories and its first strip or tile.

        Raises
        ------
        ValueError
            Files are not below the folder of the source; or files that would have to be kept
            entirely are more than is kept unasked.
        """
        self.source, paths = plan.collection.source, plan.collection.paths
        if is_url(self.source) and split(self.source).kind == "http":
            raise ValueError(
                f"restorable=True lists all files of the folder, and a web server, {self.source}, "
                "lists none: leave it"
            )
        if paths is None or set(plan.collection.slot_dims) != set(self.files.outer):
            raise ValueError("restorable=True needs 'path' along all dimensions of the files")
        slots = self._slots(plan)
        self.inside = {str(paths[slot]) for slot in slots}
        if outside := sorted(p for p in self.inside if not _is_below(p, self.source)):
            raise ValueError(
                f"restorable=True: {counted(len(outside), 'file')} not below the folder of the "
                f"source, {self.source}:\n{first_lines(outside)}"
            )
        self.places = {_place(image.at): image.group(0) for image in plan.images}
        with ThreadPoolExecutor(min(32, 4 * (os.cpu_count() or 1))) as pool:
            seen = list(pool.map(lambda slot: self._see(plan, slot), slots))
        self._refuse_large([each for each in seen if each.reason])
        longest = self._find_others(sum(each.size for each in seen if each.reason))
        room = max(len(os.fsencode(p)) for p in (*self.inside, *self.others, "")) * 6 + _HEAD
        entire = sum(about(path)[0] for path in self.others)
        entries = [each.most for each in seen if each.size]
        self.most = sum(entries) + entire + room * (len(entries) + len(self.others))
        return {
            "slots": max((each.most for each in seen), default=0) + room,
            "others": [len(self.others), longest + room],
        }

    def _see(self, plan: Plan, slot: Slot) -> _Seen:
        """Look at one file."""
        path = self._path(plan, slot)
        try:
            size, _ = about(path)
        except OSError:
            return _Seen(path, 0, 0, "")  # it is missing, and there is nothing to keep
        try:
            layout = self._layout(plan, slot)
            found = outlook(path, layout) if layout is not None else None
        except (OSError, ValueError) as error:
            return _Seen(path, size, size, str(error).removeprefix(path).strip(": "))
        if found is None:
            return _Seen(path, size, size, "it is not read")
        return _Seen(path, size, max(found.most, size if found.reason else 0), found.reason)

    @staticmethod
    def _slots(plan: Plan) -> list[Slot]:
        """Slots that have a path."""
        paths: Any = plan.collection.paths
        return [slot for slot in np.ndindex(paths.shape) if paths[slot]]

    @staticmethod
    def _path(plan: Plan, slot: Slot) -> str:
        paths: Any = plan.collection.paths
        return str(paths[slot])

    def _layout(self, plan: Plan, slot: Slot) -> Layout | None:
        """Tell what the file of a slot holds; None where it is not read."""
        here = dict(zip(plan.collection.slot_dims, slot, strict=True))
        at = tuple(here[d] for d in self.files.outer)
        read = self.files.paths[at] == self._path(plan, slot)
        return self.files.layout_of(at) if read else None

    def _refuse_large(self, seen: list[_Seen]) -> None:
        """Refuse files that pixels do not give back, unless they are small or this was asked."""
        total = sum(each.size for each in seen)
        if self.whole or total <= WHOLE:
            return
        lines = [f"{below(self.source, each.path)}: {each.reason}" for each in seen]
        raise ValueError(
            f"{len(seen)} of {counted(len(self.inside), 'file')} cannot be made of pixels again:\n"
            f"{first_lines(lines)}\n"
            f"Keep them entirely beside the pixels, {total / 1e6:,.0f} MB more, with "
            "keep_whole=True; or convert without restorable=True. Nothing was written."
        )

    def _find_others(self, taken: int) -> int:
        """Find the files of the folder that are in no slot, those to keep; returns the longest."""
        longest = 0
        found = [(size, path) for path, size in list_folder(self.source) if path not in self.inside]
        for size, path in sorted(found):
            if size < 0:
                self.left[path] = "no regular file, or a folder that cannot be listed"
            elif self.whole or taken + size <= WHOLE:
                self.others.append(path)
                taken, longest = taken + size, size
            else:
                self.left[path] = f"in no slot, {size / 1e6:,.1f} MB"
        return longest

    def expected(self, plan: Plan) -> tuple[Kept, int]:
        """Say what will be kept, and its bytes at most; see `Keeper`."""
        found = there([self._path(plan, slot) for slot in self._slots(plan)])
        others = len(self.others)
        return Kept(len(found) + others, others, self._lines(self.left)), self.most

    def _lines(self, left: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(f"{below(self.source, path)}: {why}" for path, why in sorted(left.items()))

    # -- while it is written ----------------------------------------------------------------

    def keep(self, target: Target, plan: Plan, block: Block, broken: Container[Slot]) -> None:
        """Write the entries of the files that begin in a block; see `Keeper`."""
        starts = {d: along.start for d, along in plan.region(block, 0).items()}
        starts |= plan.images[block.image].at
        if block.step or any(starts.get(d, 0) for d in self.files.inner):
            return
        entries = self._of(target, SLOTS)
        for slot in plan.slots_of(block):
            self._keep(entries, slot, self._path(plan, slot), plan, slot in broken)

    def _keep(self, entries: Entries, slot: Slot, path: str, plan: Plan, broken: bool) -> None:
        """Write the entry of the file of a slot, unless the file cannot be read."""
        try:
            record = None if broken else self._record(plan, slot)
            if record is None and about(path)[0] > WHOLE and not self.whole:
                self.left[path] = _NOT_BACK
                return
            record = record or self._entire(path)
        except FileNotFoundError:
            return  # a slot without a file, of which there is nothing to keep
        except (OSError, ValueError) as error:
            self.left[path] = str(error)
            return
        self._write(entries, slot, path, record)

    def _record(self, plan: Plan, slot: Slot) -> Record | None:
        """Make the entry of a file whose pixels are stored; None if they give nothing back."""
        path, layout = self._path(plan, slot), self._layout(plan, slot)
        if layout is None:
            return None
        found = anatomy(path, layout)
        if not len(found.runs) and not len(found.pieces):
            return None
        here = dict(zip(plan.collection.slot_dims, slot, strict=True))
        return Record(
            below(self.source, path),
            about(path)[1],
            sha256_of(path),
            found,
            self._groups(plan, here, layout),
            {d: i for d, i in here.items() if d in plan.axes},
            self.files.inner,
            layout.shape,
            layout.dtype.newbyteorder("<").str,
        )

    def _groups(self, plan: Plan, slot: dict[str, int], layout: Layout) -> tuple[str, ...]:
        """Find the images that hold the pixels of a file: several where they are no axis of one.

        In C order of those dimensions of the file along which there is an image at each position.
        """
        shape = dict(zip(self.files.inner, layout.shape, strict=True))
        spread = [d for d in shape if d not in plan.axes]
        fixed = {d: i for d, i in slot.items() if d not in plan.axes}
        return tuple(
            self.places[_place({**fixed, **dict(zip(spread, at, strict=True))})]
            for at in np.ndindex(*(shape[d] for d in spread))
        )

    def _entire(self, path: str) -> Record:
        """Make the entry of a file that is kept as it is."""
        size, changed = about(path)
        return Record(below(self.source, path), changed, sha256_of(path), entire(size))

    def _of(self, target: Target, path: str) -> Entries:
        """Open the array of some entries, once."""
        if path not in self._entries:
            self._entries[path] = Entries(target, path)
        return self._entries[path]

    def _write(self, entries: Entries, index: tuple[int, ...], path: str, record: Record) -> None:
        """Write an entry, unless the file cannot be read."""

        def parts() -> Iterator[bytes]:
            yield record.head()
            for start, stop in record.anatomy.gaps():
                try:
                    yield from read_span(path, start, stop)
                except OSError as error:
                    raise _UnreadError(str(error)) from error

        try:
            entries.write(index, parts())
        except _UnreadError as error:
            entries.write(index, [b"\0"])  # no record begins so
            self.left[path] = str(error)
        else:
            self._done.add(path)
            self.left.pop(path, None)

    def keep_others(self, target: Target, plan: Plan) -> None:
        """Write the entries of the files that are in no slot; see `Keeper`."""
        room, _ = plan.settings.kept["others"]
        for index, path in enumerate(self.others):
            try:
                if index >= room:
                    raise OSError(_LATE)
                self._write(self._of(target, OTHERS), (index,), path, self._entire(path))
            except OSError as error:
                self.left[path] = str(error)

    def kept(self, target: Target, plan: Plan) -> Kept:
        """Say what is kept, by this process or by others; see `Keeper`.

        Entries that others wrote are looked up; those that are lost or damaged are written again.
        """
        slots = {self._path(plan, slot): slot for slot in self._slots(plan)}
        wanted = {path: slots[path] for path in there(list(slots))}
        others = there(self.others)
        known = self._done | self.left.keys()
        looked = {path: slot for path, slot in wanted.items() if path not in known}
        if looked:
            entries = self._of(target, SLOTS)
            names = self._kept_in(entries, list(looked.values()))
            notes = read_notes(target) or {}
            failed = {failure["path"] for failure in notes.get("failed", ())}
            for (path, slot), name in zip(looked.items(), names, strict=True):
                if name != below(self.source, path):
                    try:
                        self._keep(entries, slot, path, plan, path in failed)
                    except OSError as error:
                        self.left[path] = str(error)
        if lacking := [path for path in others if path not in known]:
            self._mend_others(target, lacking)
        held = {*wanted, *others} - self.left.keys()
        return Kept(len(held), len(held.intersection(others)), self._lines(self.left))

    def _kept_in(self, entries: Entries, indexes: Sequence[tuple[int, ...]]) -> list[str]:
        """Read which file each entry is of: an empty text where that is lost or damaged.

        Of a store to which this call wrote nothing, all that is kept is read.
        """
        every = not self._done

        def one(index: tuple[int, ...]) -> str:
            entry = Entry(entries, index)
            try:
                if (read := entry.record()) is None:
                    return ""
                record, begin = read
                end = begin + record.anatomy.kept
                for at in range(begin, end if every else begin, entries.chunk):
                    entry.read(at, min(at + entries.chunk, end))
            except Damaged:
                return ""
            return record.path

        with ThreadPoolExecutor(REQUESTS) as pool:
            return list(pool.map(one, indexes))

    def _mend_others(self, target: Target, others: Sequence[str]) -> None:
        """Write those files in no slot again whose entries are lost or damaged."""
        try:
            entries = self._of(target, OTHERS)
        except FileNotFoundError:  # there were none when the conversion began
            self.left.update(dict.fromkeys(others, _LATE))
            return
        names = self._kept_in(entries, list(np.ndindex(entries.shape)))
        there = set(names)
        free = [i for i, name in enumerate(names) if not name]
        for path in others:
            if below(self.source, path) in there:
                continue
            try:
                if not free:
                    raise OSError(_LATE)
                self._write(entries, (free.pop(0),), path, self._entire(path))
            except OSError as error:
                self.left[path] = str(error)


def keeping(files: CompleteFiles | None, whole: bool) -> Keeping:
    """Make what keeps of the files of a Dataset.

    Raises
    ------
    ValueError
        Its pixels are not those of complete files.
    """
    if files is None:
        raise ValueError(
            "restorable=True needs all pixels of each file, as they are in it; those of a mosaic, "
            "of a selection within files, or of what was computed are not: convert what was "
            "opened, or a selection of entire files"
        )
    return Keeping(files, whole)


def _place(at: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(at.items()))


def _is_below(path: str, folder: str) -> bool:
    """Whether a path is that of a file below a folder, as `below` spells it."""
    name = below(folder, path)
    return bool(folder) and name != path and ".." not in name.split("/")

"""A store whose files can be written back: which these are, and where their pixels are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from xarray_tiffstack.back.labels import REQUESTS, dims_of, named, selected, spelled
from xarray_tiffstack.back.rebuild import Slabs, rebuilt
from xarray_tiffstack.back.records import KEPT, PIXELS, Damaged, Entries, Entry
from xarray_tiffstack.messages import counted, unreadable
from xarray_tiffstack.ome_zarr import place
from xarray_tiffstack.ome_zarr.keeping import OTHERS, SLOTS
from xarray_tiffstack.ome_zarr.metadata import zarr_format
from xarray_tiffstack.ome_zarr.notes import is_root_damaged, read_notes
from xarray_tiffstack.ome_zarr.pixels import open_pixels

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from zarr.abc.store import Store as ZarrStore

    from xarray_tiffstack.back.labels import Named
    from xarray_tiffstack.back.records import Record
    from xarray_tiffstack.ome_zarr.pixels import Pixels

NOT_KEPT = "the store does not keep it"


@dataclass(frozen=True, eq=False)
class StoredFile:
    """One file that a store holds."""

    stored: Stored
    entry: Entry
    path: str
    """Below the folder of the source, with "/"."""
    size: int
    mtime: int
    sha256: str
    made_by: str
    """With which encoders it was converted; empty where it needs none."""

    def pieces(self) -> Iterator[Any]:
        """Bytes of the file, in their order.

        Raises
        ------
        Damaged
            The store does not hold them any more.
        """
        read = self.entry.record()
        if read is None:
            raise Damaged(f"{KEPT} is gone")
        record, begin = read
        slabs = None if record.at is None else self.stored.slabs(record)
        yield from rebuilt(record, self.entry, begin, slabs)
        self.entry.forget()


@dataclass(frozen=True)
class Found:
    """What a store holds of its files."""

    files: list[StoredFile] = field(default_factory=list)
    """Files of which something is kept that can be read."""
    lost: dict[str, str] = field(default_factory=dict)
    """Files that are lacking, by their paths, and why; and what else cannot be read."""
    unnamed: int = 0
    """How many of the latter have no name that is known."""


class Stored:
    """A store that holds files.

    Parameters
    ----------
    store
        What `to_ome_zarr` wrote.

    Raises
    ------
    FileNotFoundError
        There is no such store.
    ValueError
        It is not complete, or keeps nothing of its files but their pixels.
    """

    def __init__(self, store: str | os.PathLike[str] | ZarrStore) -> None:
        self.name, self.target = str(store), place.target_of(store)
        notes = read_notes(self.target)
        if notes is None or "settings" not in notes:
            raise FileNotFoundError(f"{store} is no store that to_ome_zarr wrote")
        # Each file has its checksum, and files that are lacking are known by their labels.
        if notes["state"] != "complete" and not is_root_damaged(self.target):
            raise ValueError(f"{store} is not complete: convert again to complete it")
        if not notes["settings"].get("restorable"):
            raise ValueError(
                f"{store} keeps nothing of its files but their pixels: convert with "
                "restorable=True (--restorable)"
            )
        self.driver = "zarr3" if zarr_format(notes["settings"]["ngff_version"]) == 3 else "zarr"
        self.others = int(notes["settings"]["kept"]["others"][0])
        self._open: dict[str, Pixels] = {}
        self._cut: dict[str, tuple[Sequence[str], Sequence[int]]] = {}

    def slabs(self, record: Record) -> Slabs:
        """Pixels of a file."""
        paths = [f"{group}/image" for group in record.groups]
        try:
            return Slabs([self._image(path) for path in paths], *self._axes(paths[0]), record)
        except Exception as error:  # of damaged metadata
            raise Damaged(f"{PIXELS} {unreadable(error)}") from error

    def _image(self, path: str) -> Pixels:
        """Open an array of pixels, once."""
        if path not in self._open:
            self._open[path] = open_pixels(self.target, path, self.driver)
        return self._open[path]

    def _axes(self, path: str) -> tuple[Sequence[str], Sequence[int]]:
        """Names of the axes of an array of pixels, and the extent of its objects along each."""
        if path not in self._cut:
            array: Any = zarr.open_array(self.target, path=path, mode="r")
            self._cut[path] = dims_of(array), array.shards or array.chunks
        return self._cut[path]

    def look(self, selection: Mapping[str, Any] | None = None) -> Found:
        """Find the files of the store, or those that a selection of labels names.

        Raises
        ------
        ValueError
            The selection names nothing, or labels cannot be read to select by.
        """
        wanted = selected(self.target, selection) if selection else None
        slots, why = self._entries(SLOTS)
        names = named(self.target, slots.sizes if slots else None)
        found: dict[str, StoredFile] = {}
        lost: dict[str, str] = {}
        unnamed = 0
        if slots is not None:
            unnamed = self._look_at_slots(slots, names, wanted, found, lost)
        there = {spelled(file.path) for file in found.values()} | lost.keys()
        lost |= dict.fromkeys((names.every if wanted is None else wanted) - there, why or NOT_KEPT)
        if wanted is None:
            unnamed += self._look_at_others(found, lost)
            for labels, reason in names.unread.items():
                lost[labels] = f"{reason}: whether further files are lacking is not known"
        files = [f for f in found.values() if wanted is None or spelled(f.path) in wanted]
        return Found(files, dict(sorted(lost.items())), unnamed)

    def _entries(self, path: str) -> tuple[Entries | None, str]:
        """Open the entries of one kind; or say why that cannot be."""
        try:
            return Entries(self.target, path), ""
        except FileNotFoundError:
            return None, NOT_KEPT
        except Exception as error:  # of damaged metadata
            return None, f"{KEPT} {unreadable(error)}"

    def _look_at_slots(
        self,
        entries: Entries,
        names: Named,
        wanted: set[str] | None,
        found: dict[str, StoredFile],
        lost: dict[str, str],
    ) -> int:
        """Read the entries of the files in slots; returns how many damaged ones have no name."""
        every = list(np.ndindex(entries.shape))
        if wanted is not None:
            every = [index for index in every if names.slots.get(index) in {None, *wanted}]
        unnamed = 0
        for index, file in self._read(entries, every):
            if isinstance(file, str):
                name = names.slots.get(index)
                unnamed += name is None
                at = ", ".join(f"{d} {i}" for d, i in zip(entries.sizes, index, strict=True))
                lost[name or f"the file at {at}, counted from 0"] = file
            elif file is not None:
                found.setdefault(file.path, file)
        return unnamed

    def _look_at_others(self, found: dict[str, StoredFile], lost: dict[str, str]) -> int:
        """Read the entries of the files in no slot, whose names only they say; as above."""
        if not self.others:
            return 0
        entries, why = self._entries(OTHERS)
        if entries is None:
            lost[counted(self.others, "file") + " in no slot"] = why
            return self.others
        unnamed = 0
        for (number,), file in self._read(entries, list(np.ndindex(entries.shape))):
            if isinstance(file, str):
                unnamed += 1
                lost[f"a file in no slot, number {number + 1} of {self.others}"] = file
            elif file is not None:
                found.setdefault(file.path, file)
        return unnamed

    def _read(
        self, entries: Entries, indexes: Sequence[tuple[int, ...]]
    ) -> Iterator[tuple[tuple[int, ...], StoredFile | str | None]]:
        """Read what file each entry is of: none, or why it cannot be known."""

        def one(index: tuple[int, ...]) -> StoredFile | str | None:
            try:
                return self._file(Entry(entries, index))
            except Damaged as error:
                return str(error)

        with ThreadPoolExecutor(REQUESTS) as pool:
            yield from zip(indexes, pool.map(one, indexes), strict=True)

    def _file(self, entry: Entry) -> StoredFile | None:
        """Read what file an entry is of; None where there is none."""
        read = entry.record()
        entry.forget()
        if read is None:
            return None
        record, _ = read
        made_by = record.made_by if record.encoded else ""
        return StoredFile(
            self, entry, record.path, record.size, record.mtime, record.sha256, made_by
        )

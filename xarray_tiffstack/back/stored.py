"""A store whose files can be written back: which these are, and where their pixels are."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr

from xarray_tiffstack.back.rebuild import Slabs, rebuilt
from xarray_tiffstack.back.records import Entries, Entry
from xarray_tiffstack.messages import counted, first_lines
from xarray_tiffstack.ome_zarr import place
from xarray_tiffstack.ome_zarr.keeping import OTHERS, SLOTS
from xarray_tiffstack.ome_zarr.metadata import zarr_format
from xarray_tiffstack.ome_zarr.notes import read_notes
from xarray_tiffstack.ome_zarr.pixels import open_pixels
from xarray_tiffstack.source import below

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from zarr.abc.store import Store as ZarrStore

    from xarray_tiffstack.back.records import Record
    from xarray_tiffstack.ome_zarr.pixels import Pixels

REQUESTS = 16  # entries that are asked for at once: those of a store at a URL take long to come


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
        """Bytes of the file, in their order."""
        read = self.entry.record()
        if read is None:
            raise ValueError(f"what was kept of {self.path} is gone")
        record, begin = read
        slabs = None if record.at is None else self.stored.slabs(record)
        yield from rebuilt(record, self.entry, begin, slabs)
        self.entry.forget()


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
        if notes["state"] != "complete":
            raise ValueError(f"{store} is not complete: convert again to complete it")
        if not notes["settings"].get("restorable"):
            raise ValueError(
                f"{store} keeps nothing of its files but their pixels: convert with "
                "restorable=True (--restorable)"
            )
        self.driver = "zarr3" if zarr_format(notes["settings"]["ngff_version"]) == 3 else "zarr"
        self.root = zarr.open_group(self.target, mode="r", use_consolidated=False)
        self._open: dict[str, Pixels] = {}
        self._cut: dict[str, tuple[Sequence[str], Sequence[int]]] = {}

    @cached_property
    def groups(self) -> list[str]:
        """Groups of the images at full resolution."""
        own: Any = self.root["tiffstack"].attrs["images"]
        return [f"{path}/0".lstrip("/") for path in own]

    def labels(self, group: str) -> xr.Dataset:
        """Labels of an image."""
        store: Any = self.target
        ds: xr.Dataset = xr.open_zarr(store, group=group, chunks=None, consolidated=False)
        return ds.drop_vars("image").load()

    def slabs(self, record: Record) -> Slabs:
        """Pixels of a file."""
        paths = [f"{group}/image" for group in record.groups]
        return Slabs([self._image(path) for path in paths], *self._axes(paths[0]), record)

    def _image(self, path: str) -> Pixels:
        """Open an array of pixels, once."""
        if path not in self._open:
            self._open[path] = open_pixels(self.target, path, self.driver)
        return self._open[path]

    def _axes(self, path: str) -> tuple[Sequence[str], Sequence[int]]:
        """Names of the axes of an array of pixels, and the extent of its objects along each."""
        if path not in self._cut:
            array: Any = self.root[path]
            names = array.metadata.dimension_names if self.driver == "zarr3" else None
            names = names or array.attrs["_ARRAY_DIMENSIONS"]
            self._cut[path] = names, array.shards or array.chunks
        return self._cut[path]

    def files(self, selection: Mapping[str, Any] | None = None) -> list[StoredFile]:
        """Files of the store, or those that a selection of labels names.

        Raises
        ------
        ValueError
            Entries are damaged, or the selection names nothing.
        """
        found: dict[str, StoredFile] = {}
        damaged = []
        wanted = self._selected(selection) if selection else None
        for path in (SLOTS, OTHERS):
            if path not in self.root:
                continue
            entries = Entries(self.target, path)

            def one(index: tuple[int, ...], entries: Entries = entries) -> StoredFile | str | None:
                try:
                    return self._file(Entry(entries, index))
                except Exception as error:  # a damaged object can raise anything
                    return f"{entries.path}, entry {index}: {error}"

            with ThreadPoolExecutor(REQUESTS) as pool:
                for file in pool.map(one, np.ndindex(entries.shape)):
                    if isinstance(file, str):
                        damaged.append(file)
                    elif file is not None:
                        found.setdefault(file.path, file)
        if damaged:
            raise ValueError(
                f"{self.name}: what was kept of {counted(len(damaged), 'file')} is damaged:\n"
                f"{first_lines(damaged)}"
            )
        return [f for f in found.values() if wanted is None or _spelled(f.path) in wanted]

    def lacking(
        self, files: Sequence[StoredFile], selection: Mapping[str, Any] | None = None
    ) -> list[str]:
        """Find files of the array, or of a selection, of which nothing is kept: their paths."""
        there = {_spelled(file.path) for file in files}
        if selection:
            return sorted(self._selected(selection) - there)

        def one(group: str) -> set[str]:
            node: Any = self.root[group]
            source, paths = str(node.attrs.get("source", "")), np.ravel(node["path"][...])
            return {below(source, str(path)) for path in paths if path}

        with ThreadPoolExecutor(REQUESTS) as pool:
            return sorted(set().union(*pool.map(one, self.groups)) - there)

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

    def _selected(self, selection: Mapping[str, Any]) -> set[str]:
        """Paths of the files with some labels."""
        paths: set[str] = set()
        seen: dict[str, list[Any]] = {name: [] for name in selection}
        wanted = {
            name: list(values) if isinstance(values, (list, tuple)) else [values]
            for name, values in selection.items()
        }
        for group in self.groups:
            ds = self.labels(group)
            here: Any = ds["path"]
            for name, values in wanted.items():
                if name not in here.coords:
                    raise ValueError(
                        f"{name}={values[0]} selects nothing: the labels of the files are "
                        f"{', '.join(map(str, here.coords))}"
                    )
                labels = ds[name]
                seen[name] += np.ravel(labels.values).tolist()
                same = [any(_same(each, v) for v in values) for each in np.ravel(labels.values)]
                kept = xr.DataArray(np.reshape(same, labels.shape), dims=labels.dims)
                here = here.where(kept, "")
            source = str(ds.attrs.get("source", ""))
            paths |= {below(source, str(p)) for p in np.ravel(here.values) if p}
        for name, values in wanted.items():
            if lacking := [v for v in values if not any(_same(each, v) for each in seen[name])]:
                there = list(dict.fromkeys(map(str, seen[name])))
                raise ValueError(
                    f"{name}={lacking[0]} is no label; those of {name} are:\n{first_lines(there)}"
                )
        return paths


def _same(label: Any, wanted: Any) -> bool:
    """Whether a label is the one that is wanted, which a shell gives as text."""
    if str(label) == str(wanted):
        return True
    try:
        return float(label) == float(wanted)
    except (TypeError, ValueError):
        return False


def _spelled(path: str) -> str:
    """Spell a path as labels of a store do, which hold UTF-8 alone."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")

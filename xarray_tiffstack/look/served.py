"""A Dataset as the keys of an OME-Zarr store that is nowhere: pixels are read when asked for.

Metadata and labels are made in memory; a chunk is a plane, or a few, read from its file. Levels
are coarser in y and x alone, so that none needs other planes than those that it shows.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import zarr
from zarr.errors import ZarrUserWarning
from zarr.storage import MemoryStore

from xarray_tiffstack.look.planes import limits, read, select
from xarray_tiffstack.ome_zarr.images import collect
from xarray_tiffstack.ome_zarr.levels import halve, level_factors, level_labels
from xarray_tiffstack.ome_zarr.metadata import collections, image_attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import xarray as xr

    from xarray_tiffstack.ome_zarr.images import Image

Place: TypeAlias = dict[str, Any]  # an int or a slice along dimensions

VERSION: Final = "0.5"
SIDES = (256, 128)  # pixels along y and x of a chunk: at full resolution, and of coarser levels
SLAB = 4  # planes that are read and averaged at once for coarser levels
DEPTHS = (1, SLAB, 4 * SLAB)  # planes of a chunk of the first, second and further levels
CHUNK_PIXELS = 2**16  # a chunk has at least about so many, where planes are small
CACHE = 2**28  # bytes of planes that are kept
LARGE = 2**25  # bytes of a plane that is not kept, and of which only a part is read


class ServedError(Exception):
    """A chunk's file cannot be read."""


@dataclass(frozen=True)
class Answer:
    """What is stored at a key."""

    body: bytes
    tag: str
    """Changes when the body does."""


class Served:
    """The keys of a store made of a Dataset.

    Parameters
    ----------
    ds
        The Dataset.
    cache
        Bytes of planes that are kept.
    """

    def __init__(self, ds: xr.Dataset, *, cache: int = CACHE) -> None:
        self.collection = collect(ds)
        self.image = ds["image"]  # not the collection's, whose byte order may be changed by dask
        self.axes = tuple(self.collection.axes)
        self.sizes = {d: self.image.sizes[d] for d in self.axes}
        plane = {d: self.sizes[d] for d in ("y", "x")}
        self.factors = [{"z": 1, **factor} for factor in level_factors(plane, {}, "auto")]
        self.images = {image.path: image for image in self.collection.images}
        self.files = _Files(ds)
        self.cache = _Cache(cache)
        self.limits = _limits(ds)
        self._documents: dict[str, Any] = {}
        self._made: set[str] = set()
        self._lock = threading.Lock()
        self._root = zarr.open_group(MemoryStore(self._documents), mode="w", zarr_format=3)
        for path, attrs in collections(self.collection, VERSION).items():
            self._root.require_group(path).update_attributes(attrs) if path else (
                self._root.update_attributes(attrs)
            )
        if "" in self.images:
            self._make(self.images[""])
            self._gather()

    def shape(self, level: int) -> tuple[int, ...]:
        """Length of each axis of a level."""
        return tuple(n // self.factors[level].get(d, 1) for d, n in self.sizes.items())

    def chunk(self, level: int) -> tuple[int, ...]:
        """Extent of a chunk of a level."""
        shape = dict(zip(self.axes, self.shape(level), strict=True))
        chunk = dict.fromkeys(self.axes, 1)
        chunk |= {d: min(shape[d], SIDES[min(level, 1)]) for d in ("y", "x")}
        if "z" in chunk:
            depth = max(DEPTHS[min(level, 2)], CHUNK_PIXELS // (chunk["y"] * chunk["x"]))
            chunk["z"] = min(shape["z"], depth)
        return tuple(chunk.values())

    # --- metadata and labels ------------------------------------------------------------------

    def _make(self, image: Image) -> None:
        """Make groups, labels and empty arrays of one image."""
        described = image_attributes(
            self.collection, image, self.factors, VERSION, self.limits, "mean"
        )
        group = self._root.require_group(image.path) if image.path else self._root
        group.update_attributes(described)
        for level, factor in enumerate(self.factors):
            path = image.group(level)
            labels = level_labels(self.collection.labels(image), factor)
            text = {n: v.astype(object) for n, v in labels.coords.items() if v.dtype.kind in "UT"}
            labels.assign_coords(text).to_zarr(
                self._root.store, group=path, mode="w", consolidated=False, zarr_format=3
            )
            self._root.create_array(
                f"{path}/image",
                shape=self.shape(level),
                chunks=self.chunk(level),
                dtype=self.collection.dtype.newbyteorder("="),
                fill_value=0,
                compressors=None,
                dimension_names=self.axes,
                attributes=dict(self.image.attrs),
            )
            self._gather(path)
        self._made.add(image.path)

    def _gather(self, path: str | None = None) -> None:
        """Put all metadata below a group into it: over HTTP nothing can be listed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZarrUserWarning)  # that others do not know it
            zarr.consolidate_metadata(self._root.store, path=path)

    def get(self, key: str) -> Answer | None:
        """Find what is stored at a key; None where nothing is.

        Raises
        ------
        ServedError
            A file cannot be read.
        """
        image = self._image_of(key)
        if image is not None:
            with self._lock:
                if image.path not in self._made:
                    self._make(image)
            inner = key.removeprefix(image.path).lstrip("/")
            if (at := re.fullmatch(r"(\d+)/image/c((?:/\d+)+)", inner)) is not None:
                return self._chunk(image, int(at[1]), [int(i) for i in at[2].split("/")[1:]])
        document = self._documents.get(key)
        if document is None:
            return None
        body = document.to_bytes()
        return Answer(body, hashlib.blake2b(body, digest_size=16).hexdigest())

    def _image_of(self, key: str) -> Image | None:
        """Find the image that a key is within."""
        parts = key.split("/")
        within = ("/".join(parts[:depth]) for depth in range(len(parts)))
        return next((self.images[path] for path in within if path in self.images), None)

    # --- pixels -------------------------------------------------------------------------------

    def tag(self, key: str) -> str | None:
        """Find the tag of a chunk without reading it; None for another key."""
        image = self._image_of(key)
        inner = key.removeprefix(image.path).lstrip("/") if image is not None else ""
        at = re.fullmatch(r"(\d+)/image/c((?:/\d+)+)", inner)
        if image is None or at is None:
            return None
        place = self._place(image, int(at[1]), [int(i) for i in at[2].split("/")[1:]])
        return None if place is None else self.files.tag(place)

    def _place(self, image: Image, level: int, index: Sequence[int]) -> Place | None:
        """Say where a chunk lies in the image, at full resolution; None if beyond its end."""
        if level >= len(self.factors) or len(index) != len(self.axes):
            return None
        shape, chunk = self.shape(level), self.chunk(level)
        if any(i * n >= length for i, n, length in zip(index, chunk, shape, strict=True)):
            return None
        place: Place = dict(image.at)
        for dim, i, n, length in zip(self.axes, index, chunk, shape, strict=True):
            by = self.factors[level].get(dim, 1)
            place[dim] = slice(i * n * by, min((i + 1) * n, length) * by)
        return place

    def _chunk(self, image: Image, level: int, index: Sequence[int]) -> Answer | None:
        """Read a chunk, and make it coarser; None where there is no file."""
        place = self._place(image, level, index)
        if place is None or not self.files.any(place):
            return None
        tag = self.files.tag(place)
        try:
            pixels = self._coarse(place, level) if level else self._fine(place, tag)
        except (OSError, ValueError, RuntimeError) as error:
            raise ServedError(str(error)) from error
        full = self.chunk(level)
        if pixels.shape != full:
            padded = np.zeros(full, pixels.dtype)
            padded[tuple(map(slice, pixels.shape))] = pixels
            pixels = padded
        little = pixels.dtype.newbyteorder("<")
        return Answer(np.ascontiguousarray(pixels, little).tobytes(), tag)

    def _fine(self, place: Place, tag: str) -> np.ndarray:
        """Read part of the image at full resolution; its planes are kept, unless they are large."""
        if self.sizes["y"] * self.sizes["x"] * self.image.dtype.itemsize > LARGE:
            return self._compute(place)
        whole = {**place, "y": slice(None), "x": slice(None)}
        (planes,) = self.cache.get(_key(whole, 0, tag), lambda: (self._compute(whole),))
        return planes[..., place["y"], place["x"]]

    def _coarse(self, place: Place, level: int) -> np.ndarray:
        """Make part of a coarser level, from slabs of a few planes that are read once for all."""
        by = self.factors[level]
        within = tuple(slice(*(n // by[d] for n in (place[d].start, place[d].stop))) for d in "yx")
        slabs = []
        for start in range(*_bounds(place.get("z")), SLAB):
            slab = {**place, "y": slice(None), "x": slice(None)}
            if "z" in place:
                slab["z"] = slice(start, min(start + SLAB, place["z"].stop))
            key = _key(slab, 1, self.files.tag(slab))
            levels = self.cache.get(key, partial(self._levels, slab))
            slabs.append(levels[level - 1][..., within[0], within[1]])
        return slabs[0] if len(slabs) == 1 else np.concatenate(slabs, self.axes.index("z"))

    def _levels(self, slab: Place) -> tuple[np.ndarray, ...]:
        """Read some planes, and make all coarser levels of them."""
        levels = [self._compute(slab)]
        for _ in self.factors[1:]:
            shape = levels[-1].shape
            halved = [i for i in (len(shape) - 2, len(shape) - 1) if shape[i] > 1]
            out = [n // 2 if i in halved else n for i, n in enumerate(shape)]
            levels.append(halve(levels[-1], halved, np.empty(out, levels[-1].dtype)))
        return tuple(levels[1:])

    def _compute(self, place: Place) -> np.ndarray:
        part = self.image.isel(place, missing_dims="ignore").transpose(*self.axes)
        return np.asarray(part.compute(scheduler="synchronous").values)


def _key(place: Place, level: int, tag: str) -> str:
    return f"{level} {sorted(place.items(), key=str)} {tag}"


def _bounds(along: slice | None) -> tuple[int, int]:
    return (0, 1) if along is None else (along.start, along.stop)


class _Files:
    """The file of each slot, and whether it has changed."""

    def __init__(self, ds: xr.Dataset) -> None:
        self.known = "path" in ds.coords
        self.dims: tuple[Any, ...] = ()
        self.paths = np.zeros(0, object)
        if self.known:
            self.dims = ds["path"].dims
            self.paths = ds["path"].values.astype(object)
            if "present" in ds.coords:
                present = ds["present"].transpose(*self.dims).values
                self.paths = np.where(present == True, self.paths, "")  # noqa: E712 - or NaN

    def of(self, place: Place) -> list[str]:
        """List the files of a part of the image."""
        taken = self.paths[tuple(place.get(d, slice(None)) for d in self.dims)]
        return [p for p in np.ravel(taken) if isinstance(p, str) and p]

    def any(self, place: Place) -> bool:
        """Whether a part of the image has any file, as far as the Dataset knows them."""
        return not self.known or bool(self.of(place))

    def tag(self, place: Place) -> str:
        """Sum up the state of the files of a part of the image."""
        states = []
        for path in self.of(place):
            try:
                state = os.stat(path)
                states.append((path, state.st_size, state.st_mtime_ns))
            except OSError:
                states.append((path, -1, 0))
        return hashlib.blake2b(repr(states).encode(), digest_size=16).hexdigest()


class _Cache:
    """Arrays by key, the last used ones up to a number of bytes; each is made once."""

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0
        self.arrays: OrderedDict[str, tuple[np.ndarray, ...]] = OrderedDict()
        self.lock = threading.Lock()
        self.making: dict[str, threading.Lock] = {}

    def get(self, key: str, make: Callable[[], tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
        """Find arrays, or make them; who asks for the same meanwhile waits for it."""
        with self.lock:
            own = self.making.setdefault(key, threading.Lock())
        with own:
            with self.lock:
                if key in self.arrays:
                    self.arrays.move_to_end(key)
                    return self.arrays[key]
            arrays = make()
            with self.lock:
                self.arrays[key] = arrays
                self.held += sum(array.nbytes for array in arrays)
                while self.held > self.limit and len(self.arrays) > 1:
                    _, old = self.arrays.popitem(last=False)
                    self.held -= sum(array.nbytes for array in old)
                self.making.pop(key, None)
            return arrays


def _limits(ds: xr.Dataset) -> dict[int, tuple[float, float]]:
    """Contrast of each channel, from a few of its planes."""
    rows = read(ds, select(ds, count=3))
    return {i: limits(row, "auto") for i, row in enumerate(rows) if any(not p.problem for p in row)}

"""A Dataset as the keys of an OME-Zarr store that is nowhere: pixels are read when asked for.

Metadata and labels are made in memory; pixels are read from the files, each once for all chunks
and levels that are made of it.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zarr
from zarr.errors import ZarrUserWarning
from zarr.storage import MemoryStore

from xarray_tiffstack.look.held import Cache, FileStates
from xarray_tiffstack.look.planes import limits, read, select
from xarray_tiffstack.look.pyramid import pyramid
from xarray_tiffstack.ome_zarr.images import collect
from xarray_tiffstack.ome_zarr.levels import Memory, halve, level_labels
from xarray_tiffstack.ome_zarr.metadata import collections, image_attributes, spacing
from xarray_tiffstack.ome_zarr.source import ReadsInto

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import xarray as xr

    from xarray_tiffstack.look.held import Place
    from xarray_tiffstack.look.pyramid import Level, Seen
    from xarray_tiffstack.ome_zarr.images import Image

VERSION: Final = "0.5"
CACHE = 2**30  # bytes of pixels that are kept
LARGE = 2**25  # bytes of a plane that is not kept at full resolution, only the part that is shown
DESCRIPTION = (
    "pixels are averaged along y and x; along z, where a level is coarser, each plane is the "
    "middle one of those that it covers"
)


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
    seen
        What levels and chunks are made for; see `pyramid`.
    cache
        Bytes of pixels that are kept.
    """

    def __init__(self, ds: xr.Dataset, seen: Seen = "planes", *, cache: int = CACHE) -> None:
        self.collection = collect(ds)
        self.image = ds["image"]  # not the collection's, whose byte order may be changed by dask
        self.axes = tuple(self.collection.axes)
        self.sizes = {d: self.image.sizes[d] for d in self.axes}
        self.pyramid = pyramid(self.sizes, spacing(self.collection.ds), seen)
        self.plane_bytes = self.sizes["y"] * self.sizes["x"] * self.image.dtype.itemsize
        self.slab = self.pyramid.slab
        while self.slab > 1 and self.slab * self.plane_bytes > LARGE:
            self.slab //= 2
        self.images = {image.path: image for image in self.collection.images}
        self.files = FileStates(ds)
        self.cache = Cache(cache)
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._memory = Memory()
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

    def close(self) -> None:
        """End its threads; what is being read is not kept."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- metadata and labels ------------------------------------------------------------------

    def _make(self, image: Image) -> None:
        """Make groups, labels and empty arrays of one image."""
        group = self._root.require_group(image.path) if image.path else self._root
        group.update_attributes(self.described(image))
        for number, level in enumerate(self.pyramid.levels):
            path = image.group(number)
            labels = level_labels(self.collection.labels(image), level.factor)
            text = {n: v.astype(object) for n, v in labels.coords.items() if v.dtype.kind in "UT"}
            labels.assign_coords(text).to_zarr(
                self._root.store, group=path, mode="w", consolidated=False, zarr_format=3
            )
            self._root.create_array(
                f"{path}/image",
                shape=tuple(level.shape.values()),
                chunks=tuple(level.chunk.values()),
                dtype=self.collection.dtype.newbyteorder("="),
                fill_value=0,
                compressors=None,
                dimension_names=self.axes,
                attributes=dict(self.image.attrs),
            )
            self._gather(path)
        self._made.add(image.path)

    def described(self, image: Image) -> dict[str, Any]:
        """Attributes of the group of an image."""
        factors = self.pyramid.factors
        found = image_attributes(self.collection, image, factors, VERSION, self.limits)
        if factors[-1].get("z", 1) > 1:
            (multiscale,) = found["ome"]["multiscales"]
            multiscale["metadata"] = {"description": DESCRIPTION}
        return found

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

    def _place(self, image: Image, number: int, index: Sequence[int]) -> Place | None:
        """Say where a chunk lies in the image, at full resolution; None if beyond its end."""
        if number >= len(self.pyramid.levels) or len(index) != len(self.axes):
            return None
        level = self.pyramid.levels[number]
        place: Place = dict(image.at)
        for dim, i in zip(self.axes, index, strict=True):
            n, length, by = level.chunk[dim], level.shape[dim], level.factor.get(dim, 1)
            if i * n >= length:
                return None
            place[dim] = slice(i * n * by, min((i + 1) * n, length) * by)
        return place

    def _chunk(self, image: Image, number: int, index: Sequence[int]) -> Answer | None:
        """Read a chunk; None where there is no file."""
        place = self._place(image, number, index)
        if place is None or not self.files.any(place):
            return None
        tag = self.files.tag(place)
        try:
            pixels = self._pixels(place, number)
        except (OSError, ValueError, RuntimeError) as error:
            raise ServedError(str(error)) from error
        full = tuple(self.pyramid.levels[number].chunk.values())
        if pixels.shape != full:
            padded = np.zeros(full, pixels.dtype)
            padded[tuple(map(slice, pixels.shape))] = pixels
            pixels = padded
        little = pixels.dtype.newbyteorder("<")
        return Answer(np.ascontiguousarray(pixels, little).tobytes(), tag)

    def _pixels(self, place: Place, number: int) -> np.ndarray:
        """Read part of a level, from slabs of a few planes that are read once for all."""
        level = self.pyramid.levels[number]
        if number == 0 and self.plane_bytes > LARGE:
            return self._compute(place)
        slabs = list(self._slabs(place, level))
        each = self._pool.map if len(slabs) > 1 else map
        found = each(partial(self._slab, number=number), slabs)
        within = [slice(*(n // level.factor[d] for n in (place[d].start, place[d].stop)))
                  for d in "yx"]  # fmt: skip
        parts = [pixels[..., within[0], within[1]] for pixels in found]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, self.axes.index("z"))

    def _slabs(self, place: Place, level: Level) -> Iterator[Place]:
        """List the planes that part of a level is made of, a few at once."""
        whole = {**place, "y": slice(None), "x": slice(None)}
        if "z" not in place:
            yield whole
            return
        first, end, by = place["z"].start, place["z"].stop, level.step
        for start in range(first, end, self.slab * by):
            stop = min(start + self.slab * by, end)
            yield {**whole, "z": slice(start + by // 2, stop, by)}

    def _slab(self, slab: Place, number: int) -> np.ndarray:
        """Read some planes at a level, which makes the others that need the same planes."""
        levels = self.pyramid.levels
        made = [i for i, level in enumerate(levels) if level.step == levels[number].step]
        if self.pyramid.seen != "planes" or self.plane_bytes > LARGE:  # too much to keep it all
            made = [i for i in made if i] if number else [0]
        key = f"{made} {sorted(slab.items(), key=str)} {self.files.tag(slab)}"
        return self.cache.get(key, partial(self._made_of, slab, made))[made.index(number)]

    def _made_of(self, slab: Place, made: Sequence[int]) -> tuple[np.ndarray, ...]:
        """Read some planes, and average their pixels for some levels."""
        level = self._compute(slab) if 0 in made else self._lent(slab)
        found = [level] if 0 in made else []
        for number in range(1, made[-1] + 1):
            halved = [i for i in (level.ndim - 2, level.ndim - 1) if level.shape[i] > 1]
            out = [n // 2 if i in halved else n for i, n in enumerate(level.shape)]
            level = halve(level, halved, np.empty(out, level.dtype))
            if number in made:
                found.append(level)
        return tuple(found)

    def _compute(self, place: Place) -> np.ndarray:
        part = self._part(place)
        options: Any = {"scheduler": "synchronous"} if part.chunks else {}
        return np.asarray(part.compute(**options).values)

    def _lent(self, place: Place) -> np.ndarray:
        """Read pixels into memory that this thread uses again for the next ones."""
        part = self._part(place)
        if isinstance(part, ReadsInto):
            pixels = part.read_into(self._memory.array([part.nbytes], np.dtype(np.uint8)))
            if pixels is not None:
                return pixels
        return self._compute(place)

    def _part(self, place: Place) -> xr.Variable:
        return self.image.variable.isel(place, missing_dims="ignore").transpose(*self.axes)


def _limits(ds: xr.Dataset) -> dict[int, tuple[float, float]]:
    """Contrast of each channel, from a few of its planes."""
    rows = read(ds, select(ds, count=3))
    return {i: limits(row, "auto") for i, row in enumerate(rows) if any(not p.problem for p in row)}

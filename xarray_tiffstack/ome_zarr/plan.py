"""What decides the bytes of a store: levels, chunks, codecs, labels, and how the work is cut."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr

from xarray_tiffstack.array.device import on_host
from xarray_tiffstack.array.mosaic import files_of
from xarray_tiffstack.ome_zarr import metadata as ngff

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import xarray as xr

    from xarray_tiffstack.ome_zarr.metadata import NgffVersion

CHUNK_DEPTH = 64  # planes a chunk, about
CHUNK_PIXELS = 2**22  # pixels a chunk, about
FEW_CHUNKS = 4  # of a coarser level along an axis are made equally long
SMALL_BLOCK = 64 * 2**20  # smaller files are read and written several at a time, bytes
LARGE_BLOCK = 2**30  # larger files are read and written in parts, bytes
WORDS = {"factors": "levels", "labels": "source, labels or voxel_size"}  # where fields are ours


@dataclass(frozen=True)
class Pass:
    """A round over the blocks of all images: reads one level, writes the levels below it."""

    reads: int
    """Level that is read; of the first pass it is the source, and is written too."""
    writes: tuple[int, ...]
    """Levels that are written."""
    block: dict[str, int]
    """Extent of a block along each dimension, in pixels of the level that is read."""


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of a store; kept in it, as JSON."""

    ngff_version: NgffVersion
    sizes: dict[str, int]
    """Length of each axis of one image."""
    dtype: str
    factors: list[dict[str, int]]
    chunks: dict[str, int]
    shards: dict[str, int] | None
    compressors: list[dict[str, Any]] | None
    labels: str
    """Digest of all coordinates and attributes, the paths of the files with them."""
    voxel_size: dict[str, float] | None = field(default=None, compare=False)
    """What the caller gave; the labels tell it apart already."""
    passes: list[dict[str, Any]] = field(default_factory=list, compare=False)
    """How the work is cut, which follows the chunks of the Dataset that began it."""

    def differing(self, other: Settings) -> list[str]:
        """Say in a user's words which settings differ."""
        compared = [f.name for f in fields(self) if f.compare]
        found = [name for name in compared if getattr(self, name) != getattr(other, name)]
        return [WORDS.get(name, name) for name in found]

    def shape(self, level: int) -> dict[str, int]:
        """Length of each axis of a level."""
        factor = self.factors[level]
        return {dim: n // factor.get(dim, 1) for dim, n in self.sizes.items()}

    def chunk(self, level: int) -> dict[str, int]:
        """Extent of a chunk of a level: a few equal ones, or those of full resolution."""
        chunk = {}
        for dim, length in self.shape(level).items():
            count = -(-length // self.chunks[dim])
            even = level and count <= FEW_CHUNKS  # the last one would be padding for the most part
            chunk[dim] = -(-length // count) if even else min(length, self.chunks[dim])
        return chunk

    def shard(self, level: int) -> dict[str, int] | None:
        """Extent of a shard of a level: as many chunks as at full resolution, or all it has."""
        if self.shards is None:
            return None
        shape, chunk = self.shape(level), self.chunk(level)
        most = {d: n // self.chunks[d] for d, n in self.shards.items()}
        return {d: n * min(most[d], -(-shape[d] // n)) for d, n in chunk.items()}

    def unit(self, level: int) -> dict[str, int]:
        """Extent of what is stored as one file or object."""
        return self.shard(level) or self.chunk(level)


def prepared(ds: xr.Dataset, voxel_size: Mapping[str, float] | None = None) -> xr.Dataset:
    """Dataset as the store will hold it: dimensions in NGFF's order, positions in micrometers."""
    if "image" not in ds.data_vars or len(ds.data_vars) > 1:
        raise ValueError(
            "to_ome_zarr writes a Dataset whose one variable is 'image'; this one has "
            f"{', '.join(map(repr, ds.data_vars)) or 'none'}: take ds[['image']]"
        )
    ds = _on_host(ds.drop_encoding())
    for axis, size in (voxel_size or {}).items():
        if axis not in ngff.SPACE or axis not in ds.dims or not size > 0:
            raise ValueError(
                f"voxel_size takes positive micrometers for the axes of space, not {axis}={size}"
            )
        position = np.arange(ds.sizes[axis]) * float(size)
        ds = ds.assign_coords({axis: (axis, position, {"units": "micrometer"})})
    kinds = ngff.axes(ds)
    outer = [d for d in ds["image"].dims if d not in kinds]
    return ds.transpose(*outer, *kinds, ...)


def _on_host(ds: xr.Dataset) -> xr.Dataset:
    """Bring the image to the host: files are read there, what was computed is copied by blocks."""
    array = ds.variables["image"]._data
    files = files_of(array)
    if files is not None and files.device is not None:
        return ds.assign(image=ds["image"].copy(data=files.on(None)))
    copied = on_host(array)
    return ds if copied is array else ds.assign(image=ds["image"].copy(data=copied))


def make_settings(
    ds: xr.Dataset,
    levels: int | Literal["auto"],
    chunks: Mapping[str, int] | Literal["auto"],
    shards: Mapping[str, int] | Literal["auto"] | None,
    compressors: Any,
    ngff_version: NgffVersion,
    voxel_size: Mapping[str, float] | None,
) -> Settings:
    """Decide everything that was left to be decided."""
    if ngff_version not in ("0.5", "0.4"):
        raise ValueError(f"ngff_version={ngff_version!r} is neither '0.5' nor '0.4'")
    if shards is not None and ngff_version == "0.4":
        raise ValueError("shards= needs Zarr 3, which NGFF 0.5 has: leave ngff_version at '0.5'")
    image = ds["image"]
    if not image.size:
        raise ValueError(f"there is nothing to write: the sizes are {dict(image.sizes)}")
    sizes = {d: image.sizes[d] for d in ngff.axes(ds)}
    space = {d: sizes[d] for d in ngff.SPACE if d in sizes}
    chunk = default_chunks(sizes) | _extents("chunks", chunks, sizes)
    chunk = {d: min(c, sizes[d]) for d, c in chunk.items()}
    shard = None
    if shards is not None:
        volume = {d: -(-sizes[d] // c) * c if d in space else c for d, c in chunk.items()}
        shard = volume | _extents("shards", shards, volume)
        if odd := {d: n for d, n in shard.items() if n % chunk[d]}:
            raise ValueError(f"shards={odd} are no multiples of the chunks {chunk}")
    steps = ngff.spacing(ds)
    settings = Settings(
        ngff_version=ngff_version,
        sizes=sizes,
        dtype=str(image.dtype),
        factors=ngff.level_factors(space, steps, levels),
        chunks=chunk,
        shards=shard,
        compressors=_codecs(compressors, image.dtype, ngff_version),
        labels=_digest(ds),
        voxel_size=dict(voxel_size) if voxel_size else None,
    )
    # One file: along the dimensions that files are told by, a chunk may hold several.
    files = set(ds["path"].dims) if "path" in ds.coords else set()
    extent = image.data.chunksize if image.chunks else image.shape
    file = math.prod(n for d, n in zip(image.dims, extent, strict=True) if d not in files)
    limit = min(max(file * image.dtype.itemsize, SMALL_BLOCK), LARGE_BLOCK)
    settings.passes.extend(asdict(step) for step in plan_passes(settings, limit))
    return settings


def make_labels(ds: xr.Dataset, settings: Settings) -> Settings:
    """Give the settings that the same options would make of another Dataset."""
    own = {"sizes": {d: ds.sizes[d] for d in ngff.axes(ds)}, "dtype": str(ds["image"].dtype)}
    return Settings(**{**asdict(settings), **own, "labels": _digest(ds)})


def default_chunks(sizes: Mapping[str, int]) -> dict[str, int]:
    """Chunks of about 4 million pixels, 64 planes deep, that divide the axes nearly evenly.

    Examples
    --------
    >>> default_chunks({"stack": 199, "channel": 3, "z": 201, "y": 1024, "x": 768})
    {'stack': 1, 'channel': 1, 'z': 67, 'y': 256, 'x': 256}
    >>> default_chunks({"time": 20000, "y": 2048, "x": 2048})
    {'time': 1, 'y': 2048, 'x': 2048}
    """
    chunk = dict.fromkeys(sizes, 1)
    if "z" in sizes:
        chunk["z"] = _even(sizes["z"], CHUNK_DEPTH)
    side = math.sqrt(CHUNK_PIXELS / chunk.get("z", 1))
    return chunk | {d: _even(sizes[d], side) for d in ("y", "x")}


def _even(size: int, target: float) -> int:
    """Length of equal parts of an axis, about as long as wanted."""
    return -(-size // max(1, round(size / target)))


def plan_passes(settings: Settings, limit: int) -> Iterator[Pass]:
    """Cut the work into blocks of at most `limit` bytes where what is written allows.

    A block is made of whole stored objects of every level that it writes, so that no two blocks
    ever write to the same one. Where blocks would be too large for that, the coarser levels are
    left to a further pass, which reads the coarsest level that is there.
    """
    itemsize = np.dtype(settings.dtype).itemsize
    first = 0
    while first < len(settings.factors):
        reads = max(first - 1, 0)
        for last in reversed(range(first, len(settings.factors))):
            levels = range(first, last + 1)
            block = _aligned(settings, reads, levels)
            if math.prod(block.values()) * itemsize <= limit:
                break
        shape = settings.shape(reads)
        for dim in reversed(block):
            fit = limit // (math.prod(block.values()) // block[dim] * itemsize)
            if dim != "channel":  # the display limits of each are read off its own blocks
                whole = fit >= shape[dim]
                block[dim] = shape[dim] if whole else block[dim] * max(1, fit // block[dim])
        yield Pass(reads, tuple(levels), block)
        first = last + 1


def _aligned(settings: Settings, reads: int, levels: Iterable[int]) -> dict[str, int]:
    """Smallest block that is made of whole stored objects of some levels."""
    block = dict.fromkeys(settings.sizes, 1)
    shape = settings.shape(reads)
    for level in levels:
        whole = settings.shape(level)
        for dim, unit in settings.unit(level).items():
            by = settings.factors[level].get(dim, 1) // settings.factors[reads].get(dim, 1)
            step = shape[dim] if unit >= whole[dim] else unit * by
            block[dim] = min(shape[dim], math.lcm(block[dim], step))
    return block


def _extents(
    keyword: str, given: Mapping[str, int] | Literal["auto"], sizes: Mapping[str, int]
) -> dict[str, int]:
    """Check lengths along dimensions, as the caller gave them."""
    if given == "auto":
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(f"{keyword}={given!r} is neither 'auto' nor lengths by dimension")
    bad = {d: n for d, n in given.items() if d not in sizes or not isinstance(n, int) or n < 1}
    if bad:
        raise ValueError(f"{keyword}={bad}: the dimensions are {dict(sizes)}")
    return dict(given)


def _codecs(compressors: Any, dtype: np.dtype[Any], version: str) -> list[dict[str, Any]] | None:
    """Let zarr complete the codecs, and put them in the form in which its metadata have them."""
    if isinstance(compressors, str) and compressors == "auto":
        compressors = blosc("lz4", 5, version)
    try:
        array = zarr.create_array(
            {}, shape=(1,), chunks=(1,), dtype=dtype, compressors=compressors,
            zarr_format=3 if version == "0.5" else 2,
        )  # fmt: skip
    except (TypeError, ValueError, LookupError) as error:
        raise ValueError(
            f"compressors={compressors!r} is neither 'auto', None nor codecs of Zarr: {error}"
        ) from error
    forms: list[Any] = [
        codec.get_config() if version == "0.4" else codec.to_dict()  # type: ignore[union-attr]
        for codec in array.compressors
    ]
    return json.loads(json.dumps(forms)) or None


def blosc(cname: str, clevel: int, version: str) -> dict[str, Any]:
    """Blosc with bitshuffle, which suits the noise in the low bits of camera pixels."""
    if version == "0.4":
        return {"id": "blosc", "cname": cname, "clevel": clevel, "shuffle": 2, "blocksize": 0}
    options = {"cname": cname, "clevel": clevel, "shuffle": "bitshuffle", "blocksize": 0}
    return {"name": "blosc", "configuration": options}


def _digest(ds: xr.Dataset) -> str:
    """Digest of all coordinates and attributes."""
    text = json.dumps(
        [ds.drop_vars("image").to_dict(), ds["image"].attrs], sort_keys=True, default=str
    )
    return hashlib.sha256(text.encode()).hexdigest()

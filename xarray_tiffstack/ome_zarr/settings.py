"""What decides the bytes of a store: levels, chunks, codecs, labels, and how the work is cut."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr

from xarray_tiffstack.messages import one_of, user_stacklevel
from xarray_tiffstack.ome_zarr.images import SPACE
from xarray_tiffstack.ome_zarr.levels import METHODS, SHORT_AXIS, Method, level_factors
from xarray_tiffstack.ome_zarr.metadata import (
    VERSIONS,
    NgffVersion,
    spacing,
    unit_of_space,
    zarr_format,
)
from xarray_tiffstack.ome_zarr.skew import ANGLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xarray_tiffstack.ome_zarr.images import Collection

CHUNK_DEPTH = 64  # planes a chunk, about
CHUNK_PIXELS = 2**22  # pixels a chunk, about
FEW_CHUNKS = 4  # of a coarser level along an axis are made equally long
WORDS = {"factors": "levels", "labels": "source, labels or voxel_size"}  # where fields are ours


@dataclass(frozen=True)
class Options:
    """What a caller may choose of a store; `to_ome_zarr` says what each means."""

    levels: int | Literal["auto"] = "auto"
    chunks: Mapping[str, int] | Literal["auto"] = "auto"
    shards: Mapping[str, int] | Literal["auto"] | None = None
    compressors: Any = "auto"
    ngff_version: NgffVersion = "0.5"
    voxel_size: Mapping[str, float] | None = None
    method: Method = "mean"


@dataclass(frozen=True)
class Limits:
    """Sizes at which the work is cut; tests choose small ones."""

    small: int = 64 * 2**20
    """Smaller files are read and written several at a time, bytes."""
    large: int = 2**30
    """Larger files are read and written in parts, bytes."""
    piece: int = 64 * 2**20
    """Bytes that are read and written at once, about."""
    short: int = SHORT_AXIS
    """Length up to which z is not halved."""


LIMITS = Limits()


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
    """What the caller gave; the labels differ with it already."""
    passes: list[dict[str, Any]] = field(default_factory=list, compare=False)
    """How the work is cut, which follows the chunks of the Dataset that began it."""
    method: Method = "mean"
    restorable: bool = False
    """Whether it keeps of each file what is not pixels, so that the file can be written back."""
    kept: dict[str, Any] = field(default_factory=dict, compare=False)
    """How much room there is for that, as `Keeper.look` finds it."""

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


def make_settings(collection: Collection, options: Options, limits: Limits = LIMITS) -> Settings:
    """Decide everything that was left to be decided."""
    version, image = options.ngff_version, collection.ds["image"]
    one_of("ngff_version", version, VERSIONS)
    one_of("method", options.method, METHODS)
    if options.shards is not None and version == "0.4":
        raise ValueError("shards= needs Zarr 3, which NGFF 0.5 has: leave ngff_version at '0.5'")
    if version == "0.6" and ANGLE in image.attrs and not unit_of_space(collection.ds):
        warnings.warn(
            "the store will not say how its volumes are set upright: z, y and x have no common "
            "unit; give the lengths that are not known in micrometers, as voxel_size=",
            stacklevel=user_stacklevel(),
        )
    if not image.size:
        raise ValueError(f"there is nothing to write: the sizes are {dict(image.sizes)}")
    sizes = {d: image.sizes[d] for d in collection.axes}
    space = {d: sizes[d] for d in SPACE if d in sizes}
    chunk = default_chunks(sizes) | _extents("chunks", options.chunks, sizes)
    chunk = {d: min(c, sizes[d]) for d, c in chunk.items()}
    settings = Settings(
        ngff_version=version,
        sizes=sizes,
        dtype=str(image.dtype),
        factors=level_factors(space, spacing(collection.ds), options.levels, limits.short),
        chunks=chunk,
        shards=_shard(options.shards, chunk, sizes, space),
        compressors=_codecs(options.compressors, image.dtype, version),
        labels=_digest(collection),
        voxel_size=dict(options.voxel_size) if options.voxel_size else None,
        method=options.method,
    )
    limit = min(max(_file_size(collection), limits.small), limits.large)
    settings.passes.extend(asdict(step) for step in plan_passes(settings, limit))
    return settings


def settings_like(collection: Collection, settings: Settings) -> Settings:
    """Give the settings that the same options would make of another Dataset."""
    ds = collection.ds
    own = {"sizes": {d: ds.sizes[d] for d in collection.axes}, "dtype": str(ds["image"].dtype)}
    return Settings(**{**asdict(settings), **own, "labels": _digest(collection)})


def _file_size(collection: Collection) -> int:
    """Bytes of one file: along the dimensions that files differ in, a chunk may hold several."""
    image = collection.ds["image"]
    files = set(collection.ds["path"].dims) if "path" in collection.ds.coords else set()
    extent = (max(c) for c in image.chunks) if image.chunks else image.shape
    file = (n for d, n in zip(image.dims, extent, strict=True) if d not in files)
    return math.prod(file) * image.dtype.itemsize


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


def _shard(
    given: Mapping[str, int] | Literal["auto"] | None,
    chunk: Mapping[str, int],
    sizes: Mapping[str, int],
    space: Mapping[str, int],
) -> dict[str, int] | None:
    """Extent of a shard at full resolution: by default all chunks of a volume."""
    if given is None:
        return None
    volume = {d: -(-sizes[d] // c) * c if d in space else c for d, c in chunk.items()}
    shard = volume | _extents("shards", given, volume)
    if odd := {d: n for d, n in shard.items() if n % chunk[d]}:
        raise ValueError(f"shards={odd} are no multiples of the chunks {dict(chunk)}")
    return shard


def plan_passes(settings: Settings, limit: int) -> Iterator[Pass]:
    """Cut the work into blocks of at most `limit` bytes where what is written allows.

    A block is made of all of the stored objects that it meets, of every level that it writes, so
    that no two blocks ever write to the same one. Where blocks would be too large for that, the
    coarser levels are left to a further pass, which reads the coarsest level that is there.
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
                entire = fit >= shape[dim]
                block[dim] = shape[dim] if entire else block[dim] * max(1, fit // block[dim])
        yield Pass(reads, tuple(levels), block)
        first = last + 1


def _aligned(settings: Settings, reads: int, levels: Iterable[int]) -> dict[str, int]:
    """Smallest block that is made of all of the stored objects of some levels that it meets."""
    block = dict.fromkeys(settings.sizes, 1)
    shape = settings.shape(reads)
    for level in levels:
        lengths = settings.shape(level)
        for dim, unit in settings.unit(level).items():
            by = settings.factors[level].get(dim, 1) // settings.factors[reads].get(dim, 1)
            step = shape[dim] if unit >= lengths[dim] else unit * by
            block[dim] = min(shape[dim], math.lcm(block[dim], step))
    return block


def _extents(
    keyword: str, given: Mapping[str, int] | Literal["auto"], sizes: Mapping[str, int]
) -> dict[str, int]:
    """Check lengths along dimensions, as the caller gave them."""
    if given == "auto":
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(f"{keyword}={given!r} must be 'auto' or lengths by dimension")
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
            zarr_format=zarr_format(version),
        )  # fmt: skip
    except (TypeError, ValueError, LookupError) as error:
        raise ValueError(
            f"compressors={compressors!r} must be 'auto', None or codecs of Zarr: {error}"
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


def _digest(collection: Collection) -> str:
    """Digest of all coordinates and attributes."""
    ds = collection.ds
    text = json.dumps(
        [ds.drop_vars("image").to_dict(), ds["image"].attrs], sort_keys=True, default=str
    )
    return hashlib.sha256(text.encode()).hexdigest()

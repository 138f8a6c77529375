"""How a store is written and checked, block by block, so that no crash or fault goes unnoticed.

A block is about one file. It is read once, piece by piece; its pixels, and those of its coarser
levels, are written; then one entry of a journal says that it is whole, with the checksums of what
was written and the state of the files that it came from. The journal is a small Zarr array in the
group ``tiffstack`` of the store, one chunk a block, so that any store writes an entry whole or not
at all. The attribute ``tiffstack`` of the root says what the store is made of, and by its ``state``
(``"preparing"``, ``"writing"``, ``"complete"``) how far it is; ``"complete"`` is the last thing
written.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import dask.array as da
import imagecodecs
import numpy as np
import xarray as xr
import zarr
from zarr.buffer.cpu import Buffer
from zarr.core.sync import sync
from zarr.errors import ZarrUserWarning

from xarray_tiffstack.array.variable import FileVariable
from xarray_tiffstack.messages import first_lines
from xarray_tiffstack.ome_zarr import metadata as ngff
from xarray_tiffstack.ome_zarr.chunks import Chunks, Memory, codec_of, met, write_file
from xarray_tiffstack.ome_zarr.plan import Pass, Settings
from xarray_tiffstack.ome_zarr.progress import progress as show_progress
from xarray_tiffstack.ome_zarr.pyramid import Coarser, halve

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from zarr.abc.store import Store

    from xarray_tiffstack.ome_zarr.metadata import Image

Result = TypeVar("Result")
Cell: TypeAlias = tuple[int, ...]
Region: TypeAlias = dict[str, slice]

NOTES = "tiffstack"  # root attribute and group of what this module knows of a store
ENTRY = ("source", "failed", "low", "high")  # of the journal, before a checksum a level
PIECE = 2**26  # bytes that are read and written at once, about
SAMPLE = 100_000  # bytes of a block, about, that its display limits are read off
PROCESSORS = getattr(os, "process_cpu_count", os.cpu_count)() or 1


@dataclass(frozen=True)
class Failure:
    """A file that could not be converted."""

    path: str
    """The file."""
    error: str
    """Why."""


@dataclass(frozen=True)
class Difference:
    """A place of a store that does not hold what it should."""

    place: str
    """Array and chunk, as the key of the chunk in the store, or the file of the source."""
    paths: tuple[str, ...]
    """Files that these pixels come from."""
    reason: str
    """What is wrong."""


@dataclass(frozen=True)
class VerifyResult:
    """Outcome of comparing a store, pixel by pixel, with what was to be written."""

    blocks: int
    """Blocks compared."""
    differences: tuple[Difference, ...] = ()
    """What differs."""

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def __str__(self) -> str:
        """Return the outcome in words, with the first differences."""
        if self.ok:
            return f"verified: all {self.blocks} blocks hold the pixels of their files"
        found = [f"{d.place}: {d.reason} ({', '.join(d.paths)})" for d in self.differences]
        return f"differences in {self.blocks} blocks: {len(found)}\n{first_lines(found)}"


def read_notes(target: Path | str | Store) -> dict[str, Any] | None:
    """Read what the root of a store says of itself; None where there is no store."""
    try:
        attrs = zarr.open_group(target, mode="r", use_consolidated=False).attrs
    except FileNotFoundError:
        return None
    notes: Any = attrs.get(NOTES, {})
    return dict(notes)


@dataclass(frozen=True)
class Block:
    """What is read and written at once, and is whole or not."""

    step: int
    """Position of its pass."""
    image: int
    """Position of its image."""
    index: tuple[int, ...]
    """Position among the blocks of the image, along each dimension."""

    @property
    def entry(self) -> tuple[int, ...]:
        """Where its entry is in the journal of its pass."""
        return self.image, *self.index


class Job:
    """One conversion: a Dataset, a store, and how far it is."""

    def __init__(self, ds: xr.Dataset, target: Path | str | Store, settings: Settings) -> None:
        self.ds, self.target = ds, target
        self.source = ds["image"].variable
        self.slab = Memory()
        self.growing = False  # whether time points will be added
        self.images = ngff.images(ds)
        self.failed: dict[Cell, Failure] = {}
        self.paths: np.ndarray | None = None
        self.cell_dims: tuple[str, ...] = ()
        if "path" in ds.coords:
            dims = ds["image"].dims
            self.cell_dims = tuple(str(d) for d in ds["path"].dims if d in dims)
            # Where a volume is in several files, they are along the last dimension.
            self.paths = ds["path"].transpose(*self.cell_dims, ...).values
        self._adopt(settings)

    def _adopt(self, settings: Settings) -> None:
        """Take the cut of the work from settings."""
        self.settings = settings
        self.format: Literal[2, 3] = 3 if settings.ngff_version == "0.5" else 2
        self.axes = tuple(ngff.axes(self.ds))
        self.places = list(itertools.product(self.images, range(len(settings.factors))))
        self.coarse = [Memory() for _ in settings.factors]
        self.passes = [Pass(**step) for step in settings.passes]
        self.grids = [
            tuple(-(-settings.shape(step.reads)[d] // step.block[d]) for d in self.axes)
            for step in self.passes
        ]
        self.blocks = [
            Block(step, image, index)
            for step, grid in enumerate(self.grids)
            for image in range(len(self.images))
            for index in np.ndindex(*grid)
        ]

    # -- beginning ------------------------------------------------------------------------

    def begin(self, overwrite: bool) -> list[Block]:
        """Create the store, or go on with it; returns the blocks that are not whole."""
        self._check_place()
        notes = read_notes(self.target)
        if notes is None or notes.get("state") == "preparing":
            return self._create()
        reasons = ["it was not written by to_ome_zarr"]
        if "settings" in notes:
            stored = Settings(**notes["settings"])
            reasons = stored.differing(self.settings)
            if not reasons and not (overwrite and notes["state"] == "complete"):
                self._adopt(stored)
                self.open()
                changed = self._changed()
                if not changed:
                    todo = self._unfinished()
                    if todo and notes["state"] == "complete":
                        self._note(state="writing")
                    return todo
                reasons = [
                    f"{len(changed)} files changed since they were written:\n{first_lines(changed)}"
                ]
            elif reasons:
                reasons = [f"it was made with other {', '.join(reasons)}"]
        if not overwrite:
            raise FileExistsError(
                f"{self.target} is a store already, and {reasons[0]}\n"
                "Write elsewhere, or replace it with overwrite=True (--overwrite)."
            )
        return self._create()

    def _check_place(self) -> None:
        """Refuse a local path where something else is."""
        path = self.target
        if not isinstance(path, Path) or not path.exists():
            return
        if not path.is_dir():
            raise FileExistsError(f"{path} is a file; a store is a folder")
        if any(path.iterdir()) and not any((path / f).exists() for f in ("zarr.json", ".zgroup")):
            raise FileExistsError(f"{path} is a folder of something else than a Zarr store")

    def _create(self) -> list[Block]:
        """Write everything but pixels."""
        target, settings = self.target, self.settings
        if isinstance(target, Path) and target.is_dir():
            # Deleting takes time, and half a store must not be taken for a whole one.
            doomed = target.with_name(f".{target.name}.deleted")
            shutil.rmtree(doomed, ignore_errors=True)
            target.replace(doomed)
            shutil.rmtree(doomed)
        # A local store is made in memory, where zarr is quicker with many small files, and appears
        # as a whole; any other says that it is being prepared.
        made: dict[str, Any] = {}
        store = zarr.storage.MemoryStore(made) if isinstance(target, Path) else target
        notes: dict[str, Any] = {"state": "preparing"}
        self.root = zarr.open_group(
            store, mode="w", zarr_format=self.format, attributes={NOTES: notes}
        )
        groups = ngff.collections(self.ds, settings.ngff_version)
        for path, attrs in groups.items():
            if path:
                self.root.require_group(path).update_attributes(attrs)
        for image, level in self.places:
            self._create_level(image, level)
        for step, grid in enumerate(self.grids):
            self.root.require_group(f"{NOTES}/pass{step}")
            entries = len(ENTRY) + len(self.passes[step].writes)
            self._create_array(
                f"{NOTES}/pass{step}/entries",
                ("image", *(f"{d}_block" for d in self.axes), "entry"),
                shape=(len(self.images), *grid, entries),
                chunks=(1,) * (1 + len(grid)) + (entries,),
                dtype="float64",  # holds 32 bits of a checksum, and NaN for what is not written
                fill_value=np.nan,
                compressors=None,
                separator=".",  # one folder, however many blocks there are
            )
        notes = {"state": "writing", "settings": asdict(settings)}
        if self.growing:
            notes["growing"] = True
        self.root.update_attributes({**self._describe({}), NOTES: notes})
        self._consolidate(levels=self.growing)  # from here on others see one state of it
        if isinstance(target, Path):
            fresh = target.with_name(f".{target.name}.new")
            shutil.rmtree(fresh, ignore_errors=True)  # of a process that was killed
            try:
                for key, data in made.items():
                    write_file(fresh / key, data.to_bytes())
                fresh.replace(target)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
        self.open()
        return self.blocks

    def _create_level(self, image: Image, level: int) -> None:
        """Write the coordinates of one level of one image, and the metadata of its pixels."""
        settings = self.settings
        path = image.group(level)
        ds = self.ds
        if self.growing and "present" in ds.coords:  # others look at it before there are pixels
            ds = ds.assign_coords(present=xr.zeros_like(ds["present"]))
        self._labels(image, level, ds).to_zarr(
            self.root.store, group=path, mode="w", consolidated=False, zarr_format=self.format
        )
        shape, chunk, shard = settings.shape(level), settings.chunk(level), settings.shard(level)
        self._create_array(
            f"{path}/image",
            self.axes,
            shape=tuple(shape.values()),
            chunks=tuple(chunk.values()),
            shards=tuple(shard.values()) if shard else None,
            dtype=settings.dtype,
            fill_value=0 if self.format == 3 else None,  # xarray masks the one that Zarr 2 names
            compressors=settings.compressors,
            attributes=dict(self.ds["image"].attrs),
            separator="/",
        )

    def _labels(self, image: Image, level: int, ds: xr.Dataset | None = None) -> xr.Dataset:
        """Coordinates of one level of one image, as they are written."""
        ds = self.ds if ds is None else ds
        labels = ngff.level_labels(ngff.labels_of(ds, image), self.settings.factors[level])
        # Zarr 3 knows text of any length, and none of a fixed length.
        cast = {n: v.astype(object) for n, v in labels.coords.items() if v.dtype.kind in "UT"}
        if self.growing:  # a cell without a file may come, whose number is NaN
            cast |= {
                n: v.astype(float)
                for n, v in labels.coords.items()
                if v.dtype.kind in "iu" and v.ndim and n not in labels.dims
            }
        return labels.assign_coords(cast)

    def _create_array(
        self, path: str, dims: Sequence[str], *, separator: Literal[".", "/"], **kwargs: Any
    ) -> None:
        """Create an array whose dimensions have names, as either format has them."""
        encoding = "default" if self.format == 3 else "v2"
        kwargs["chunk_key_encoding"] = {"name": encoding, "separator": separator}
        if self.format == 3:
            kwargs["dimension_names"] = dims
        else:
            kwargs["attributes"] = {**kwargs.get("attributes", {}), "_ARRAY_DIMENSIONS": list(dims)}
        self.root.create_array(path, **kwargs)

    def _array(self, path: str) -> Any:
        return self.root[path]

    def open(self) -> None:
        """Open the store's arrays."""
        self.root = zarr.open_group(self.target, mode="r+", use_consolidated=False)
        self.journals: list[Any] = [
            self.root[f"{NOTES}/pass{step}/entries"] for step in range(len(self.passes))
        ]
        self.arrays: dict[tuple[int, int], Any] = {}
        folder = self.target if isinstance(self.target, Path) else None
        try:
            codec = codec_of(self.settings.compressors, self.source.dtype)
        except NotImplementedError:
            folder = None
        for i, image in enumerate(self.images):
            for level in range(len(self.settings.factors)):
                path = f"{image.group(level)}/image"
                array = self._array(path)
                self.arrays[i, level] = Chunks(folder / path, array, codec) if folder else array

    def _unfinished(self) -> list[Block]:
        """Blocks that are not whole, or hold files that could not be read."""
        if isinstance(self.target, Path):
            for partial in self.target.rglob("*.partial"):  # what a killed write leaves behind
                partial.unlink()
        entries: list[np.ndarray] = [journal[...] for journal in self.journals]
        return [b for b in self.blocks if entries[b.step][b.entry][1] != 0]

    def _changed(self) -> list[str]:
        """Files of finished blocks that are not what they were when they were read."""
        entries: list[np.ndarray] = [journal[...] for journal in self.journals]
        changed: list[str] = []
        for block in self.blocks:
            source, failed = entries[block.step][block.entry][:2]
            if failed == 0 and source != self._fingerprint(block):
                changed += self._files(block)
        return list(dict.fromkeys(changed))

    # -- growing --------------------------------------------------------------------------

    def grow(self) -> list[Block] | None:
        """Let the store hold the time points that came since; None where more than that differs.

        Readers see the store as it was until `finish` consolidates its metadata: arrays become
        longer, and nothing that they had moves. Returns the blocks to write, those with files
        that came late among them.
        """
        notes = read_notes(self.target)
        time = next((d for d, kind in ngff.axes(self.ds).items() if kind == "time"), None)
        if notes is None or "settings" not in notes or time is None:
            return None
        stored = Settings(**notes["settings"])
        longer = stored.sizes | {time: self.settings.sizes[time]}
        if replace(stored, sizes=longer, labels=self.settings.labels) != self.settings:
            return None
        if not all(self._extends(image, level, time) for image, level in self.places):
            return None
        self._adopt(replace(self.settings, passes=stored.passes))
        self.root = zarr.open_group(self.target, mode="r+", use_consolidated=False)
        if not notes.get("growing"):
            self._consolidate(levels=True)
            self._note(state="writing", growing=True)
        for step, grid in enumerate(self.grids):
            self._array(f"{NOTES}/pass{step}/entries").resize(
                (len(self.images), *grid, len(ENTRY) + len(self.passes[step].writes))
            )
        for image, level in self.places:
            path = f"{image.group(level)}/image"
            self._array(path).resize(tuple(self.settings.shape(level).values()))
        self.open()
        entries: list[np.ndarray] = [journal[...] for journal in self.journals]
        return [
            block
            for block in self.blocks
            if entries[block.step][block.entry][1] != 0
            or entries[block.step][block.entry][0] != self._fingerprint(block)
        ]

    def _extends(self, image: Image, level: int, time: str) -> bool:
        """Whether a level of the store is the beginning of what it shall become."""
        path = image.group(level)
        old = xr.open_zarr(self.target, group=path, chunks=None, consolidated=False)
        old, new = old.drop_vars("image").load(), self._labels(image, level)
        kinds = [
            {n: (v.dims, _kind(v.dtype)) for n, v in ds.variables.items()} for ds in (old, new)
        ]
        if kinds[0] != kinds[1] or old.sizes.get(time, 0) > new.sizes.get(time, 0):
            return False
        moving = [n for n, v in new.variables.items() if time in v.dims and n != time]
        new = new.isel({time: slice(old.sizes[time])}) if time in old.sizes else new
        return bool(old.drop_vars(moving).drop_attrs().equals(new.drop_vars(moving).drop_attrs()))

    # -- blocks ---------------------------------------------------------------------------

    def region(self, block: Block, level: int) -> Region:
        """Part of a level that a block covers."""
        step = self.passes[block.step]
        fine, coarse = self.settings.factors[step.reads], self.settings.factors[level]
        shape, read = self.settings.shape(level), self.settings.shape(step.reads)
        region = {}
        for dim, i in zip(self.axes, block.index, strict=True):
            by = coarse.get(dim, 1) / fine.get(dim, 1)
            start, stop = i * step.block[dim], min((i + 1) * step.block[dim], read[dim])
            region[dim] = slice(int(start / by), min(int(stop / by), shape[dim]))
        return region

    def nbytes(self, block: Block) -> int:
        """Bytes of pixels that a block reads."""
        region = self.region(block, self.passes[block.step].reads)
        return math.prod(map(_length, region.values())) * int(self.source.dtype.itemsize)

    def _pieces(self, region: Region, step: Mapping[str, int]) -> Iterator[Region]:
        """Cut a region into pieces that follow each other in C order, made of whole steps.

        Memory that is small and used again soon stays mapped, and partly cached: whole files at
        once take about 1.5 times the processor time.
        """
        extent = {dim: _length(along) for dim, along in region.items()}
        if not all(extent.values()):  # of a coarse level, at the end of an odd axis
            return
        for dim in region:
            one = math.prod(extent.values()) // extent[dim] * self.source.dtype.itemsize
            fit = max(1, PIECE // one // step[dim]) * step[dim]
            extent[dim] = min(extent[dim], fit)
            if extent[dim] > 1:  # cut along further axes they would not follow each other
                break
        cuts = (
            [
                slice(at, min(at + extent[dim], along.stop))
                for at in range(along.start, along.stop, extent[dim])
            ]
            for dim, along in region.items()
        )
        for cut in itertools.product(*cuts):
            yield dict(zip(region, cut, strict=True))

    def _cells(self, image: int, region: Region) -> list[Cell]:
        """Cells of the grid of files that a region of full resolution covers."""
        at = {d: slice(i, i + 1) for d, i in self.images[image].at.items()}
        taken = ((region | at)[d] for d in self.cell_dims)
        return list(itertools.product(*(range(s.start, s.stop) for s in taken)))

    def _files(self, block: Block) -> list[str]:
        """Paths of the files of a block."""
        if self.paths is None:
            return []
        cells = self._cells(block.image, self.region(block, 0))
        return [str(p) for cell in cells for p in np.ravel(self.paths[cell]) if p]

    def _fingerprint(self, block: Block) -> int:
        """Names, sizes and times of change of the files of a block, as one number."""
        source = str(self.ds.attrs.get("source", ""))
        lines = []
        for path in self._files(block):
            try:
                stat = os.stat(os.path.join(source, path))
                lines.append(f"{path} {stat.st_size} {stat.st_mtime_ns}\n")
            except OSError:  # not there, or not a local file
                lines.append(f"{path}\n")
        return zlib.crc32("".join(lines).encode())

    def _read(self, image: int, region: Region, broken: set[Cell]) -> np.ndarray:
        """Read a region of the source; of cells that are known to be broken it is zeros.

        Raises
        ------
        _Broken
            More cells turned out to be, which may have been read in part by then.
        """
        part = self.source.isel(self.images[image].at).isel(region)
        cells = self._cells(image, region)
        if broken.isdisjoint(cells):
            try:
                return self._compute(part)
            except Exception as error:  # a damaged file can raise anything
                if len(cells) == 1:
                    raise self._broken(cells[0], error, broken) from error
        pixels = np.zeros(part.shape, part.dtype)
        found = None
        for cell in cells:
            here = dict(zip(self.cell_dims, cell, strict=True))
            index = tuple(
                slice(here[d] - region[d].start, here[d] - region[d].start + 1)
                if d in here
                else slice(None)
                for d in self.axes
            )
            if cell not in broken:
                try:
                    pixels[index] = self._compute(part[index])
                except Exception as error:
                    found = self._broken(cell, error, broken)
        if found is not None:
            raise found
        return pixels

    def _compute(self, part: xr.Variable) -> np.ndarray:
        """Read lazy pixels in this thread; what it read before may be gone then."""
        if isinstance(part, FileVariable):
            pixels = part.read_into(self.slab.array([part.nbytes], np.dtype(np.uint8)))
            if pixels is not None:
                return np.ascontiguousarray(pixels)
        lazy: Any = part.data
        if isinstance(lazy, da.Array):
            # As one delayed object: `compute` would copy its only chunk once more.
            lazy = lazy.rechunk(-1).to_delayed().item().compute(scheduler="synchronous")
        return np.ascontiguousarray(lazy)

    def _broken(self, cell: Cell, error: Exception, broken: set[Cell]) -> _Broken:
        """Note that the file of a cell is broken."""
        paths = [] if self.paths is None else [str(p) for p in np.ravel(self.paths[cell]) if p]
        text = str(error) or type(error).__name__
        self.failed[cell] = Failure(", ".join(paths) or "the source", text)
        broken.add(cell)
        return _Broken(text)

    def _fine(self, block: Block, broken: set[Cell]) -> Iterator[tuple[Region, np.ndarray]]:
        """Pixels of the level that a block reads, piece by piece."""
        step = self.passes[block.step]
        unit = self.settings.unit(step.reads)
        # Pairs may be cut along the axis of the last cut only.
        halved = {self.axes[i] for i in self._halved(step.reads, step.writes[-1])}
        whole = {d: max(n, 2) if d in halved else n for d, n in unit.items()}
        for region in self._pieces(self.region(block, step.reads), whole):
            if block.step:
                yield region, self.arrays[block.image, step.reads][tuple(region.values())]
            else:
                yield region, self._read(block.image, region, broken)

    def _levels(
        self,
        block: Block,
        broken: set[Cell],
        see: Callable[[np.ndarray], None] = lambda pixels: None,
    ) -> Iterator[tuple[int, Region, np.ndarray]]:
        """Pixels of each level that a block writes: the level, where, and what.

        Full resolution comes piece by piece as it is read, and the level below it is averaged
        meanwhile; of that and the coarser ones each is one piece. `see` is given what is read in
        C order, in parts that are in the cache just then.
        """
        step = self.passes[block.step]
        reads, below = step.reads, [level for level in step.writes if level > step.reads]
        regions = {level: self.region(block, level) for level in (reads, *below)}
        shapes = {level: [_length(s) for s in regions[level].values()] for level in regions}
        dtype = self.source.dtype
        coarse = {level: self.coarse[level].array(shapes[level], dtype) for level in below}
        if below:
            coarser = Coarser(shapes[reads], self._halved(reads, below[0]), coarse[below[0]])
        first = [along.start for along in regions[reads].values()]
        for region, pixels in self._fine(block, broken):
            if reads in step.writes:
                yield reads, region, pixels
            if below:
                start = [along.start - at for along, at in zip(region.values(), first, strict=True)]
                coarser.take(start, pixels, see)
            else:
                see(pixels)
        for finer, level in pairwise((reads, *below)):
            if finer != reads:
                halve(coarse[finer], self._halved(finer, level), coarse[level])
            yield level, regions[level], coarse[level]

    def _halved(self, finer: int, coarser: int) -> list[int]:
        """Positions of the axes along which a level averages pairs of the one above."""
        above, below = self.settings.factors[finer], self.settings.factors[coarser]
        return [i for i, d in enumerate(self.axes) if below.get(d, 1) > above.get(d, 1)]

    def write(self, block: Block) -> None:
        """Read a block, write its levels, and note that it is whole."""
        broken: set[Cell] = set()
        while True:
            before = self._fingerprint(block)
            try:
                entry = self._transfer(block, broken)
            except _Broken:
                continue
            cells = self._cells(block.image, self.region(block, 0))
            if broken.issuperset(cells) or self._fingerprint(block) == before:
                break
            for cell in cells:
                self._broken(cell, OSError("it changed while it was read"), broken)
        with self._writing():
            self.journals[block.step][block.entry] = [before, len(broken), *entry]

    def _transfer(self, block: Block, broken: set[Cell]) -> list[float]:
        """Write the levels of a block; returns display limits, and a checksum a level."""
        step = self.passes[block.step]
        sums = dict.fromkeys((step.reads, *step.writes), 0)
        samples = []
        stride = max(1, round((self.nbytes(block) / SAMPLE) ** (1 / 3)))

        def see(pixels: np.ndarray) -> None:
            sums[step.reads] = checksum(pixels, sums[step.reads])

        for level, region, pixels in self._levels(block, broken, see):
            if level == step.reads:
                sparse: Any = (..., *[slice(None, None, stride)] * min(3, pixels.ndim))
                samples.append(pixels[sparse].flatten())
            with self._writing():
                self.arrays[block.image, level][tuple(region.values())] = pixels
            if level != step.reads:
                sums[level] = checksum(pixels)
        limits = _display_limits(samples, self._has_holes(block, broken))
        return [*limits, *(sums[level] for level in step.writes)]

    def _has_holes(self, block: Block, broken: set[Cell]) -> bool:
        """Whether cells of a block are filled, for want of a file."""
        cells = self._cells(block.image, self.region(block, 0))
        return bool(broken) or (
            self.paths is not None and not all(np.ravel(self.paths[cell]).all() for cell in cells)
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say of any error that it is the store that cannot be written."""
        try:
            yield
        except Exception as error:
            raise OSError(
                f"{self.target} cannot be written: {error}\n"
                "What is whole stays there; the same call goes on from it."
            ) from error

    def run(
        self, blocks: Sequence[Block], work: Callable[[Block], Result], workers: int | None
    ) -> Generator[tuple[Block, Result]]:
        """Do something with blocks in threads, pass after pass; stops cleanly when interrupted."""
        if workers is not None and workers < 1:
            raise ValueError(f"workers={workers!r} is less than one")
        with ThreadPoolExecutor(workers or PROCESSORS) as pool:
            try:
                for _, group in itertools.groupby(blocks, lambda block: block.step):
                    futures = {pool.submit(work, block): block for block in group}
                    for future in as_completed(futures):
                        yield futures.pop(future), future.result()
            finally:
                pool.shutdown(cancel_futures=True)

    # -- the end --------------------------------------------------------------------------

    def finish(self, state: Literal["writing", "complete"] = "complete") -> None:
        """Write what is known only now: display limits and failures; then that it is whole."""
        before = self.notes
        if before["state"] == "complete":
            return
        if self.failed or before.get("failed") or before.get("growing") or state == "writing":
            self._write_labels()
        described = self._describe(self._limits())
        self._consolidate(levels=before.get("growing", False))
        failed = sorted((asdict(f) for f in self.failed.values()), key=lambda f: f["path"])
        notes = {**before, "state": state, "failed": failed, "settings": asdict(self.settings)}
        if state == "complete":
            notes.pop("growing", None)
        self.root.update_attributes({**described, NOTES: notes})

    def _consolidate(self, levels: bool) -> None:
        """Gather all metadata in the root, where xarray looks for them first.

        Those of each level in its group, too, where a reader may look while its arrays grow.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZarrUserWarning)  # that others do not know it
            for image, level in self.places if levels else ():
                zarr.consolidate_metadata(self.root.store, path=image.group(level))
            self.root = zarr.consolidate_metadata(self.root.store)

    @property
    def notes(self) -> dict[str, Any]:
        """What the root says of the store."""
        return read_notes(self.target) or {}

    def _note(self, **notes: Any) -> None:
        root = zarr.open_group(self.target, mode="r+")  # with consolidated metadata if it has them
        root.update_attributes({NOTES: {**self.notes, **notes}})

    def _describe(self, limits: Mapping[int, tuple[float, float]]) -> dict[str, Any]:
        """Write the NGFF attributes of images in groups, and return those of the root."""
        settings = self.settings
        root = ngff.collections(self.ds, settings.ngff_version).get("", {})
        for image in self.images:
            described = ngff.image_attributes(
                self.ds, image, settings.factors, settings.ngff_version, limits
            )
            if image.path:
                self.root.require_group(image.path).update_attributes(described)
            else:
                root = described
        if xml := ngff.ome_xml(self.ds):
            place = self.root.store_path / "OME/METADATA.ome.xml"
            sync(place.set(Buffer.from_bytes(xml)))
        return root

    def _limits(self) -> dict[int, tuple[float, float]]:
        """Intensities to display of each channel, from samples of its blocks."""
        samples: np.ndarray = self.journals[0][..., 2:4]
        if "channel" in self.axes:
            samples = np.moveaxis(samples, 1 + self.axes.index("channel"), 0)
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

    def _write_labels(self) -> None:
        """Write coordinates anew: times that came since, and ``present`` where a file failed."""
        ds = self.ds
        if "present" in ds.coords:
            present = ds["present"].transpose(*self.cell_dims).copy(deep=True)
            for cell in self.failed:
                present.values[cell] = False
            ds = ds.assign_coords(present=present)
        for image, level in self.places:
            path = image.group(level)
            labels = self._labels(image, level, ds)
            for name, values in labels.variables.items():
                array = self._array(f"{path}/{name}")
                if array.shape != values.shape:
                    array.resize(values.shape)
                # Of text in another order than C, zarr 3.1 mixes up the items.
                array[...] = np.asarray(values.values, order="C")
            self.root.require_group(path).update_attributes(labels.attrs)

    # -- verification ---------------------------------------------------------------------

    def verify(
        self, workers: int | None, progress: bool | Literal["auto"], *, source: bool
    ) -> VerifyResult:
        """Compare all blocks with their checksums, and with the source where that is asked for."""
        total = sum(self.nbytes(block) for block in self.blocks)
        differences: list[Difference] = []
        entries: list[np.ndarray] = [journal[...] for journal in self.journals]

        def check(block: Block) -> list[Difference]:
            sums = entries[block.step][block.entry][len(ENTRY) :]
            return list(self._check(block, sums, source))

        with (
            show_progress("verified", total, progress) as advance,
            closing(self.run(self.blocks, check, workers)) as done,
        ):
            for block, found in done:
                differences += found
                advance(self.nbytes(block))
        differences.sort(key=lambda difference: difference.place)
        result = VerifyResult(len(self.blocks), tuple(differences))
        self._note(verified=json.loads(json.dumps(asdict(result))))
        return result

    def _check(self, block: Block, sums: np.ndarray, source: bool) -> Iterator[Difference]:
        """Compare one block."""
        files = tuple(self._files(block))
        entry = f"{NOTES}/pass{block.step}/entries, block {block.entry}"
        if np.isnan(sums).any():
            yield Difference(entry, files, "was never finished")
            return
        if source and not block.step:
            found = _with_broken(lambda broken: _summed(p for _, p in self._fine(block, broken)))
            if found != sums[0]:
                yield Difference(", ".join(files) or "the source", files, "its pixels changed")
                return
        bad = []
        for level, expected in zip(self.passes[block.step].writes, sums, strict=True):
            stored = self.arrays[block.image, level]
            pieces = self._pieces(self.region(block, level), self.settings.unit(level))
            try:
                if _summed(stored[tuple(piece.values())] for piece in pieces) != expected:
                    bad.append(level)
            except Exception:  # a damaged chunk can raise anything
                bad.append(level)
        if bad:
            located = _with_broken(lambda broken: list(self._locate(block, bad, broken)))
            reason = "another checksum, though no other pixels"
            yield from located or [Difference(entry, files, reason)]

    def _locate(self, block: Block, bad: Sequence[int], broken: set[Cell]) -> Iterator[Difference]:
        """Find which stored objects of some levels of a block differ."""
        files = tuple(self._files(block))
        prefix = "/c/" if self.format == 3 else "/"
        for level, region, pixels in self._levels(block, broken):
            if level not in bad:
                continue
            path = f"{self.images[block.image].group(level)}/image"
            unit = tuple(self.settings.unit(level).values())
            for index, inside, _ in met(tuple(region.values()), unit):
                at = tuple(
                    slice(along.start + s.start, along.start + s.stop)
                    for along, s in zip(region.values(), inside, strict=True)
                )
                try:
                    stored = self.arrays[block.image, level][at]
                    if np.array_equal(stored, pixels[inside], equal_nan=stored.dtype.kind == "f"):
                        continue
                    reason = "other pixels"
                except Exception as error:
                    reason = f"cannot be decoded: {error}"
                key = "/".join(map(str, index))
                yield Difference(f"{path}{prefix}{key}", files, reason)


class _Broken(Exception):
    """A file turned out to be broken: what was read of its cell before is not to be kept."""


def _with_broken(work: Callable[[set[Cell]], Result]) -> Result:
    """Do something with a block, and again from the beginning when a file is broken."""
    broken: set[Cell] = set()
    while True:
        try:
            return work(broken)
        except _Broken:
            continue


def _length(along: slice) -> int:
    return int(along.stop - along.start)


def _kind(dtype: np.dtype[Any]) -> str:
    """Kind of a type; text is one kind, however it is kept."""
    return "text" if dtype.kind in "OTU" else dtype.kind


def checksum(pixels: np.ndarray, found: int = 0) -> int:
    """CRC-32 of pixels in C order, going on from one before; as `zlib.crc32`, 20 times as fast.

    Does not hold Python's lock, under which the other workers would wait.
    """
    flat: Any = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    return int(imagecodecs.deflate_crc32(flat, found)) if flat.size else found


def _summed(pieces: Iterable[np.ndarray]) -> int:
    """Checksum of pieces that follow each other."""
    found = 0
    for pixels in pieces:
        found = checksum(pixels, found)
    return found


def _display_limits(samples: Sequence[np.ndarray], holes: bool) -> tuple[float, float]:
    """Intensities below and above which one pixel in a thousand lies; what fills holes aside."""
    sample = np.concatenate(samples) if samples else np.empty(0)
    if holes:
        sample = sample[sample != 0]
    if sample.dtype.kind not in "iuf" or not np.isfinite(sample).any():
        return np.nan, np.nan
    low, high = np.nanpercentile(sample, (0.1, 99.9))
    return float(low), float(high)

"""The doors to OME-Zarr: what may be asked of a conversion, and what comes back."""

from __future__ import annotations

import os
import resource
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xarray_tiffstack.messages import first_lines
from xarray_tiffstack.ome_zarr.job import Failure, Job, VerifyResult, read_notes
from xarray_tiffstack.ome_zarr.plan import Settings, make_labels, make_settings, prepared
from xarray_tiffstack.ome_zarr.progress import progress as show_progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr
    from zarr.abc.store import Store

    from xarray_tiffstack.ome_zarr.metadata import NgffVersion


@dataclass(frozen=True)
class Summary:
    """What a conversion did."""

    store: str
    """The store."""
    files: int
    """Files of the source."""
    missing: int
    """Cells without a file, filled."""
    failed: tuple[Failure, ...]
    """Files that could not be read, filled."""
    blocks: int
    """Blocks of the store."""
    written: int
    """Blocks written by this call; the others were whole before."""
    nbytes: int
    """Bytes of pixels read by this call."""
    seconds: float
    """Time it took, without the verification."""
    memory: int
    """Most memory that this process ever held, in bytes."""
    verified: VerifyResult | None = None
    """Outcome of the verification, where it was asked for."""

    def __str__(self) -> str:
        """Return the summary in a few lines."""
        rate = self.nbytes / 1e6 / max(self.seconds, 1e-3)
        lines = [
            f"{self.store}: {self.files} files, {self.nbytes / 1e9:.2f} GB in {self.seconds:.1f} s "
            f"({rate:.0f} MB/s), in at most {self.memory / 1e9:.2f} GB of memory"
        ]
        if self.written < self.blocks:
            lines.append(f"{self.blocks - self.written} of {self.blocks} blocks were whole before")
        if self.missing:
            lines.append(f"cells without a file, filled: {self.missing}")
        if self.verified is not None:
            lines.append(str(self.verified))
        if self.failed:
            failed = [f"{failure.path}: {failure.error}" for failure in self.failed]
            lines.append(f"files that could not be read, filled: {len(failed)}")
            lines.append(first_lines(failed))
        return "\n".join(lines)


def to_ome_zarr(
    ds: xr.Dataset,
    store: str | os.PathLike[str] | Store,
    *,
    levels: int | Literal["auto"] = "auto",
    chunks: Mapping[str, int] | Literal["auto"] = "auto",
    shards: Mapping[str, int] | Literal["auto"] | None = None,
    compressors: Any = "auto",
    ngff_version: NgffVersion = "0.5",
    voxel_size: Mapping[str, float] | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    verify: bool = False,
    strict: bool = False,
    progress: bool | Literal["auto"] = "auto",
) -> Summary:
    """Write a Dataset as OME-Zarr that viewers open, and that xarray opens with every label.

    ``xr.open_datatree(store, engine="zarr")["0"]`` is the Dataset again, its dimensions in the
    order of OME-NGFF: time, channel, space. Further dimensions have one image for each label, in
    numbered groups, or in the wells of a plate. Each file is read once; its coarser levels are
    made from the pixels in memory. Interrupted, killed or failed, the same call goes on from the
    blocks that are whole, and ends with the same store.

    Parameters
    ----------
    ds : xarray.Dataset
        As ``xarray.open_dataset(source, engine="tiffstack")`` gives it, or a selection of it.
    store : str, path or zarr store
        Where to; never inside the folder of the source.
    levels : int or "auto"
        Resolution levels; 1 is full resolution alone. Each halves y and x, and z where that
        brings the voxel closer to a cube, by the mean of pairs of pixels. By default until a
        plane is at most 256 pixels wide.
    chunks : mapping or "auto"
        Chunk length along dimensions, in pixels; those not named keep the default, about 64
        planes of 256 x 256, and 1 along time and channel.
    shards : mapping, "auto" or None
        Shard length along dimensions, multiples of the chunks'; "auto" puts the chunks of one
        volume in one file; None writes every chunk as its own file.
    compressors : Zarr codecs, "auto" or None
        As in `zarr.create_array`; by default Blosc with LZ4 and bitshuffle, None for raw pixels.
    ngff_version : {"0.5", "0.4"}
        0.5 is Zarr 3; 0.4 is Zarr 2, for older viewers.
    voxel_size : mapping, optional
        Micrometers by axis, such as ``{"z": 0.5, "y": 0.1, "x": 0.1}``; by default what the
        coordinates say.
    workers : int, optional
        Threads; by default one a processor. Each holds a slab of a file as deep as a chunk, and its
        coarser levels, in memory.
    overwrite : bool
        Replace a store that is complete, or that another source or other settings made. One
        that this very call began is gone on with all the same.
    verify : bool
        Read the store back and compare every pixel's checksum with that of what was written.
    strict : bool
        Stop at the first file that cannot be read. By default its cell is filled with zeros,
        ``present`` is False there, and the conversion goes on.
    progress : bool or "auto"
        Show how far it is, on standard error; "auto" does on a terminal.

    Returns
    -------
    Summary
        What was written, and which files failed.

    Raises
    ------
    FileExistsError
        The store is there and of other making; ``overwrite=True`` replaces it.
    ValueError
        Options that do not fit the data, or files that changed since their block was written.
    OSError
        The store cannot be written (full disk, no permission), or with ``strict`` a file cannot
        be read. What is whole stays, and the same call goes on.

    Examples
    --------
    >>> import numpy as np, tifffile, xarray as xr
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> raw, store = Path(folder.name, "raw"), Path(folder.name, "cell.ome.zarr")
    >>> raw.mkdir()
    >>> for t in (0, 1):
    ...     tifffile.imwrite(raw / f"cell_t{t}.tif", np.full((8, 8), t, "uint16"))
    >>> ds = xr.open_dataset(raw, engine="tiffstack", pattern="cell_t{t:d}.tif")
    >>> to_ome_zarr(ds, store, verify=True).verified.ok
    True
    >>> xr.open_datatree(store, engine="zarr")["0"].image.sel(t=1).values.max()
    np.uint16(1)
    >>> folder.cleanup()
    """
    started = time.perf_counter()
    job = make_job(ds, store, levels, chunks, shards, compressors, ngff_version, voxel_size)
    todo = job.begin(overwrite)
    total = sum(job.nbytes(block) for block in todo)
    with (
        show_progress("converted", total, progress) as advance,
        closing(job.run(todo, job.write, workers)) as done,
    ):
        for block, _ in done:
            advance(job.nbytes(block))
            if strict and job.failed:
                failure = next(iter(job.failed.values()))
                raise OSError(f"{failure.path}: {failure.error} (strict: nothing more is read)")
    job.finish()
    seconds = time.perf_counter() - started
    verified = job.verify(workers, progress, source=False) if verify else None
    paths, present = job.paths, ds.get("present")
    return Summary(
        store=str(store),
        files=int(np.count_nonzero(paths)) if paths is not None else 0,
        missing=int((~present).sum()) if present is not None else 0,
        failed=tuple(sorted(job.failed.values(), key=lambda failure: failure.path)),
        blocks=len(job.blocks),
        written=len(todo),
        nbytes=total,
        seconds=seconds,
        memory=_peak_memory(),
        verified=verified,
    )


def verify(
    ds: xr.Dataset,
    store: str | os.PathLike[str] | Store,
    *,
    workers: int | None = None,
    progress: bool | Literal["auto"] = "auto",
) -> VerifyResult:
    """Compare every pixel of a store with its source, by the checksums kept while writing.

    Reads all of the source and all of the store. The result is kept with the store, in the
    attribute ``tiffstack`` of its root.

    Parameters
    ----------
    ds : xarray.Dataset
        What was converted.
    store : str, path or zarr store
        What `to_ome_zarr` wrote, complete.
    workers : int, optional
        Threads; by default one a processor.
    progress : bool or "auto"
        As for `to_ome_zarr`.

    Returns
    -------
    VerifyResult
        Every chunk that differs, and the files that it comes from.

    Raises
    ------
    ValueError
        The store is not complete, or not of this source.
    FileNotFoundError
        There is no such store.

    Examples
    --------
    >>> import numpy as np, tifffile, xarray as xr
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> raw, store = Path(folder.name, "raw"), Path(folder.name, "cell.ome.zarr")
    >>> raw.mkdir()
    >>> for t in (0, 1):
    ...     tifffile.imwrite(raw / f"cell_t{t}.tif", np.full((8, 8), t, "uint16"))
    >>> ds = xr.open_dataset(raw, engine="tiffstack", pattern="cell_t{t:d}.tif")
    >>> summary = to_ome_zarr(ds, store)
    >>> print(verify(ds, store))
    verified: all 1 blocks hold the pixels of their files
    >>> folder.cleanup()
    """
    target = _target(store)
    notes = read_notes(target)
    if notes is None or "settings" not in notes:
        raise FileNotFoundError(f"{store} is no store that to_ome_zarr wrote")
    if notes["state"] != "complete":
        raise ValueError(f"{store} is not complete; convert again to go on, then verify")
    settings = Settings(**notes["settings"])
    ds = prepared(ds, settings.voxel_size)
    if differing := settings.differing(make_labels(ds, settings)):
        raise ValueError(f"{store} was made from something else: other {', '.join(differing)}")
    job = Job(ds, target, settings)
    job.open()
    return job.verify(workers, progress, source=True)


def make_job(
    ds: xr.Dataset,
    store: str | os.PathLike[str] | Store,
    levels: int | Literal["auto"] = "auto",
    chunks: Mapping[str, int] | Literal["auto"] = "auto",
    shards: Mapping[str, int] | Literal["auto"] | None = None,
    compressors: Any = "auto",
    ngff_version: NgffVersion = "0.5",
    voxel_size: Mapping[str, float] | None = None,
) -> Job:
    """Decide what the store will be; nothing is written yet."""
    ds = prepared(ds, voxel_size)
    settings = make_settings(ds, levels, chunks, shards, compressors, ngff_version, voxel_size)
    target = _target(store)
    _refuse_source(target, ds)
    return Job(ds, target, settings)


def _target(store: str | os.PathLike[str] | Store) -> Path | str | Store:
    """Local folders as paths; what zarr knows better as it is."""
    if isinstance(store, os.PathLike) or (isinstance(store, str) and "://" not in store):
        return Path(store)
    return store


def _refuse_source(target: Path | str | Store, ds: xr.Dataset) -> None:
    """Nothing is ever written to the source."""
    source = str(ds.attrs.get("source", ""))
    if not isinstance(target, Path) or not source or "://" in source:
        return
    here, there = Path(source).resolve(), target.resolve()
    if here.parent != here and there.is_relative_to(here):
        raise ValueError(
            f"{target} is inside the source {source}, and nothing is written there: put the "
            "store elsewhere"
        )


def _peak_memory() -> int:
    """Most memory that this process ever held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

"""The entry points to OME-Zarr: what may be asked of a conversion, and what comes back."""

from __future__ import annotations

import sys
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xarray_tiffstack.ome_zarr.growth import is_growing
from xarray_tiffstack.ome_zarr.images import collect
from xarray_tiffstack.ome_zarr.lock import locked
from xarray_tiffstack.ome_zarr.place import target_of
from xarray_tiffstack.ome_zarr.plan import Plan
from xarray_tiffstack.ome_zarr.progress import bar
from xarray_tiffstack.ome_zarr.results import Summary, VerifyResult
from xarray_tiffstack.ome_zarr.settings import (
    LIMITS,
    Limits,
    Options,
    Settings,
    make_settings,
    settings_like,
)
from xarray_tiffstack.ome_zarr.store import Store, read_notes
from xarray_tiffstack.ome_zarr.verification import verify_store
from xarray_tiffstack.ome_zarr.writer import run

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import xarray as xr
    from zarr.abc.store import Store as ZarrStore

    from xarray_tiffstack.ome_zarr.levels import Method
    from xarray_tiffstack.ome_zarr.metadata import NgffVersion
    from xarray_tiffstack.ome_zarr.plan import Block
    from xarray_tiffstack.ome_zarr.progress import Shown
    from xarray_tiffstack.ome_zarr.verification import Recheck


def to_ome_zarr(
    ds: xr.Dataset,
    store: str | os.PathLike[str] | ZarrStore,
    *,
    levels: int | Literal["auto"] = "auto",
    chunks: Mapping[str, int] | Literal["auto"] = "auto",
    shards: Mapping[str, int] | Literal["auto"] | None = None,
    compressors: Any = "auto",
    ngff_version: NgffVersion = "0.5",
    voxel_size: Mapping[str, float] | None = None,
    method: Method = "mean",
    workers: int | None = None,
    overwrite: bool = False,
    verify: bool = False,
    strict: bool = False,
    progress: Shown = "auto",
) -> Summary:
    """Write a Dataset as OME-Zarr that viewers open, and that xarray opens with every label.

    ``xr.open_datatree(store, engine="zarr")["0"]`` is the Dataset again, its dimensions in the
    order of OME-NGFF: time, channel, space. Further dimensions have one image for each label, in
    numbered groups, or in the wells of a plate. Each file is read once; its coarser levels are
    made from the pixels in memory. After an interruption the same call resumes: it writes the
    blocks that are not complete yet, and those that `verify` found damaged, and ends with the same
    store.

    Parameters
    ----------
    ds : xarray.Dataset
        As ``xarray.open_dataset(source, engine="tiffstack")`` gives it, or a selection of it.
    store : str, path or zarr store
        Where to; never inside the folder of the source, nor around it.
    levels : int or "auto"
        Resolution levels; 1 is full resolution alone. Each halves y and x, and z where that
        brings the voxel closer to a cube. By default until a plane is at most 256 pixels wide.
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
    method : {"mean", "nearest", "mode"}
        How a pixel of a coarser level is made of those that it covers: their mean, the first, or
        the most frequent. Of images of labels take one of the last two.
    workers : int, optional
        Threads; by default one a processor. Each holds a slab of a file as deep as a chunk, and its
        coarser levels, in memory.
    overwrite : bool
        Replace a store that is complete, or that was made from another source or with other
        settings. One that the same call began is resumed all the same. What this program did not
        write is never deleted.
    verify : bool
        Read the store back and compare every pixel's checksum with that of what was written.
    strict : bool
        Stop at the first file that cannot be read. By default its slot is filled with zeros,
        ``present`` is False there, and the others are converted.
    progress : bool or "auto"
        Show how far it is, on standard error; "auto" does on a terminal and in
        a notebook, with tqdm.

    Returns
    -------
    Summary
        What was written, and which files failed.

    Raises
    ------
    FileExistsError
        Another store is there, or files changed since they were written: ``overwrite=True``
        replaces it. Or something that this program did not write is there, and stays.
    ValueError
        Options that do not fit the data, or a store in its source or around it.
    BlockingIOError
        Another conversion writes to the same local store.
    OSError
        The store cannot be written (full disk, no permission), or with ``strict`` a file cannot
        be read. What is complete stays, and the same call resumes.

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
    options = Options(levels, chunks, shards, compressors, ngff_version, voxel_size, method)
    return convert(
        ds, store, options, workers=workers, overwrite=overwrite, check=verify, strict=strict,
        progress=progress,
    )  # fmt: skip


def convert(
    ds: xr.Dataset,
    store: str | os.PathLike[str] | ZarrStore,
    options: Options,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    check: bool = False,
    strict: bool = False,
    progress: Shown = "auto",
    limits: Limits = LIMITS,
    engine: str = "auto",
) -> Summary:
    """Convert as `to_ome_zarr` does; tests choose how the work is cut, and who writes."""
    started = time.perf_counter()
    collection = collect(ds, options.voxel_size)
    plan = Plan(collection, make_settings(collection, options, limits), limits)
    target = target_of(store)
    with locked(target):
        made = Store(plan, target, engine)
        todo = made.begin(overwrite or is_growing(target, plan))
        total = _write(made, todo, workers, progress, strict)
        made.finish()
        seconds = time.perf_counter() - started
        verified = verify_store(made, workers, progress, source=False) if check else None
    paths, present = collection.paths, collection.ds.get("present")
    return Summary(
        store=str(store),
        files=int(np.count_nonzero(paths)) if paths is not None else 0,
        missing=int((~present).sum()) if present is not None else 0,
        failed=made.failures(),
        blocks=len(made.plan.blocks),
        written=len(todo),
        nbytes=total,
        seconds=seconds,
        memory=_peak_memory(),
        verified=verified,
    )


def _write(
    store: Store, todo: list[Block], workers: int | None, progress: Shown, strict: bool
) -> int:
    """Write blocks; returns the bytes that were read."""
    nbytes, failed = store.plan.nbytes, store.source.failed
    total = sum(map(nbytes, todo))
    with (
        bar("converted", total, progress) as advance,
        closing(run(todo, store.writer.write, workers)) as done,
    ):
        for block, _ in done:
            advance(nbytes(block))
            if strict and failed:
                failure = next(iter(failed.values()))
                raise OSError(f"{failure.path}: {failure.error} (strict: nothing more is read)")
    return total


def verify(
    ds: xr.Dataset,
    store: str | os.PathLike[str] | ZarrStore,
    *,
    workers: int | None = None,
    progress: Shown = "auto",
    recheck: Recheck | None = None,
) -> VerifyResult:
    """Compare every pixel of a store with its source, by the checksums kept while writing.

    Reads all of the source and all of the store. The result is kept with the store, in the
    attribute ``tiffstack`` of its root, where that can be written; `to_ome_zarr` then writes the
    blocks that differ again.

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
    recheck : callable, optional
        Reads files a second way: is given the paths of the files of a slot, and a lazy DataArray of
        the stored pixels along the dimensions that they have, and returns what differs, as text, or
        None. It is called for a random sample of files.

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
    verified: the 1 block holds the pixels of its files
    >>> folder.cleanup()
    """
    target = target_of(store)
    notes = read_notes(target)
    if notes is None or "settings" not in notes:
        raise FileNotFoundError(f"{store} is no store that to_ome_zarr wrote")
    if notes["state"] != "complete":
        raise ValueError(f"{store} is not complete; convert again to complete it, then verify")
    settings = Settings(**notes["settings"])
    collection = collect(ds, settings.voxel_size)
    if differing := settings.differing(settings_like(collection, settings)):
        raise ValueError(f"{store} was made from something else: other {', '.join(differing)}")
    made = Store(Plan(collection, settings), target)
    made.notes = notes
    made.open("r")
    return verify_store(made, workers, progress, source=True, recheck=recheck)


def _peak_memory() -> int | None:
    """Most memory that this process ever held, in bytes; None where the system does not tell."""
    with suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return None

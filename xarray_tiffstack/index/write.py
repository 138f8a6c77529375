"""A Dataset as an index: references to the bytes of its files, with all labels."""

from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr

from xarray_tiffstack.index import ice
from xarray_tiffstack.index.codecs import allow_irregular
from xarray_tiffstack.index.files import Files, below, look, settle
from xarray_tiffstack.index.open import KERCHUNK
from xarray_tiffstack.index.pixels import (
    Limits,
    chunk_grid,
    decoded,
    region_of,
    sampled_limits,
    write_coarser,
)
from xarray_tiffstack.index.references import References, check_copies, references
from xarray_tiffstack.index.samples import fingerprints
from xarray_tiffstack.index.template import Template
from xarray_tiffstack.messages import counted, first_lines, one_of
from xarray_tiffstack.ome_zarr import place
from xarray_tiffstack.ome_zarr.images import collect
from xarray_tiffstack.ome_zarr.lock import locked
from xarray_tiffstack.ome_zarr.plan import Plan
from xarray_tiffstack.ome_zarr.settings import Options, make_settings
from xarray_tiffstack.storage import is_url, joined

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

    from xarray_tiffstack.index.files import State
    from xarray_tiffstack.ome_zarr.levels import Method
    from xarray_tiffstack.ome_zarr.progress import Shown

_MEANWHILE = "{} changed meanwhile:\n{}\nIndex again when nothing writes to them."
ODD = re.compile("[\0-\x1f\ud800-\udfff]")  # what controls something, and is no UTF-8


@dataclass(frozen=True)
class Indexed:
    """What an index refers to."""

    index: str
    """The index."""
    files: int
    """Files that it refers to."""
    references: int
    """Byte ranges of them."""
    copied: dict[str, str] = field(default_factory=dict)
    """Files of which pixels were copied, as they cannot be referred to -> why."""
    copied_nbytes: int = 0
    """Size of those pixels, decoded."""
    nbytes: int = 0
    """Size of all pixels."""
    seconds: float = 0

    def __str__(self) -> str:
        """Say it in a few lines."""
        lines = [
            f"{self.index}: {counted(self.references, 'reference')} to "
            f"{counted(self.files, 'file')}, {self.nbytes / 1e9:.2f} GB, in {self.seconds:.1f} s"
        ]
        if self.copied:
            why = (f"{path}: {reason}" for path, reason in self.copied.items())
            lines.append(
                f"copied, of {counted(len(self.copied), 'file')}: "
                f"{self.copied_nbytes / 1e6:.1f} MB\n{first_lines(why, len(self.copied))}"
            )
        return "\n".join(lines)


def to_virtual(
    ds: xr.Dataset,
    index: str | os.PathLike[str],
    *,
    levels: int = 1,
    copy: bool | Literal["auto"] = "auto",
    voxel_size: Mapping[str, float] | None = None,
    method: Method = "mean",
    workers: int | None = None,
    overwrite: bool = False,
    hashes: bool = False,
    irregular: bool = False,
    progress: Shown = "auto",
) -> Indexed:
    """Write an index of a Dataset; ``ds.tiffstack.to_virtual`` says what each option means."""
    started = time.perf_counter()
    one_of("copy", copy, (True, False, "auto"))
    if is_url(index):
        raise ValueError(
            f"an index is written on a disk, and {index} is at a URL: write it here and upload it; "
            "it is opened there too"
        )
    target = Path(os.path.abspath(os.path.expanduser(index)))
    kerchunk = target.suffix in KERCHUNK
    options = Options(
        levels=levels,
        voxel_size=voxel_size,
        method=method,
        ngff_version="0.4" if kerchunk else "0.5",
    )
    collection = collect(ds, voxel_size)
    plan = Plan(collection, make_settings(collection, options))
    _check_place(target, plan, kerchunk, overwrite)
    if kerchunk and levels != 1:
        raise ValueError(
            "kerchunk's references hold no pixels: coarser levels need an index of icechunk, "
            'to_virtual("NAME.icechunk", levels=...)'
        )
    if kerchunk and irregular:
        raise ValueError(
            "Zarr 2, which kerchunk's references are, has no irregular chunks: write an index of "
            'icechunk, to_virtual("NAME.icechunk")'
        )
    if not kerchunk:
        ice.load()
    before = _states(plan)
    refs = references(plan.variable, irregular)
    nbytes = check_copies(refs, plan.itemsize, plan.variable.nbytes, copy)
    files = _files_of(refs, collection.source, before)
    if not kerchunk:
        files = replace(files, prints=fingerprints(refs.files, files.sizes.tolist(), hashes))
    limits = sampled_limits(plan, refs) if levels == 1 else {}
    template = Template(plan, refs, files, str(target))
    with locked(target), allow_irregular() if refs.irregular else nullcontext():
        if kerchunk:
            from xarray_tiffstack.index.kerchunk import write

            write(target, template, limits)
        else:
            _write(target, template, limits, workers, progress)
    return Indexed(
        index=str(index),
        files=len(refs.files),
        references=int(refs.referred.sum()),
        copied=refs.decoded,
        copied_nbytes=nbytes,
        nbytes=plan.variable.nbytes,
        seconds=time.perf_counter() - started,
    )


def _check_place(target: Path, plan: Plan, kerchunk: bool, overwrite: bool) -> None:
    """Refuse a place in the source, or where something is."""
    there = target.exists()
    if not there:
        place.check(target, plan)
        return
    place.check_source(target, plan.collection.source, plan.collection.paths)
    known = target.suffix if kerchunk else ice.is_repository(target)
    if not known or (target.is_file() != (target.suffix == ".json")):
        raise FileExistsError(f"{target} is something else than an index: write elsewhere")
    if not overwrite:
        raise FileExistsError(
            f"{target} is there already\nWrite elsewhere, or replace it with overwrite=True."
        )


def _states(plan: Plan) -> dict[str, State | None]:
    """Look at the files before their directories are read; of URLs none is remembered then."""
    source, names = plan.collection.source, plan.collection.paths
    if names is None:
        return {}
    paths = [joined(source, str(name)) for name in names.flat if name]
    return dict(zip(paths, look(paths), strict=True))


def _files_of(refs: References, source: str, before: Mapping[str, State | None]) -> Files:
    """Files of the references, below one folder, in the state that they had before."""
    root, names = below(refs.files, source)
    odd = [repr(name) for name in names if ODD.search(name)]
    if odd:
        raise ValueError(
            f"{counted(len(odd), 'name')} cannot be written in an address:\n{first_lines(odd)}\n"
            "Rename these files, or convert with ds.tiffstack.to_ome_zarr (tiffstack convert)."
        )
    found, times = settle(refs.files)
    if gone := [path for path, now in zip(refs.files, found, strict=True) if now is None]:
        raise FileNotFoundError(f"{counted(len(gone), 'file')} vanished:\n{first_lines(gone)}")
    pairs = zip(refs.files, found, strict=True)
    if changed := [path for path, now in pairs if before.get(path, now) != now]:
        raise OSError(_MEANWHILE.format(counted(len(changed), "file"), first_lines(changed)))
    nothing = np.zeros(0, np.int64)
    return Files(root, tuple(names), nothing, nothing).seen(found, times)


def _write(
    target: Path, template: Template, limits: Limits, workers: int | None, progress: Shown
) -> None:
    """Write an index of icechunk: a new one appears at once, an older one has a commit more."""
    icechunk, there = ice.load(), target.exists()
    folder = target if there else place.beside(target, "new")
    repository = ice.Repository(str(folder), template.files.root)
    try:
        repo = repository.open(write=True) if there else repository.create()
        session = repo.writable_session("main")
        _fill(icechunk, session.store, template, limits, workers, progress, clear=there)
        if changed := template.files.changed():
            raise OSError(_MEANWHILE.format(counted(len(changed), "file"), first_lines(changed)))
        session.commit(f"{counted(len(template.files.paths), 'file')} of {template.files.root}")
        repo.save_config()
        if not there:
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.replace(target)
    finally:
        if not there:
            shutil.rmtree(folder, ignore_errors=True)


def _fill(
    icechunk: Any,
    store: Any,
    template: Template,
    limits: Limits,
    workers: int | None,
    progress: Shown,
    *,
    clear: bool,
) -> None:
    """Write all of an index to a session."""
    plan, refs = template.plan, template.refs
    ice.put(store, template.make(limits), clear)
    targets, grids = ice.Targets(icechunk, template.files), (refs.which, refs.offsets, refs.counts)
    for image in plan.images:
        own = (chunk_grid(plan, image, grid) for grid in grids)
        targets.refer(store, f"{image.group(0)}/image", *own)
    for image, at, pixels in decoded(plan, refs):
        array: Any = zarr.open_array(store, path=f"{image.group(0)}/image", mode="r+")
        array[region_of(refs, plan, at)] = pixels
    if len(plan.levels) > 1:
        found = write_coarser(plan, store, workers, progress)
        changed = template.describe(dict(found))
        root = {key: data for key, data in changed.items() if key.endswith("zarr.json")}
        groups = {f"{image.path}/zarr.json".lstrip("/") for image in plan.images} | {"zarr.json"}
        ice.put(store, {key: root[key] for key in groups}, clear=False)

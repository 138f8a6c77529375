"""An index as kerchunk's references: a JSON file, or a folder of parquet tables, read by fsspec."""

from __future__ import annotations

import base64
import json
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from xarray_tiffstack.index.files import GROUP, Files, read_files
from xarray_tiffstack.index.pixels import chunk_grid, decoded
from xarray_tiffstack.ome_zarr import place
from xarray_tiffstack.storage import Access, access_of, is_url, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from xarray_tiffstack.index.pixels import Limits
    from xarray_tiffstack.index.template import Template

RECORDS = 10_000  # references of a table
FOLDER = "{{u}}"  # what paths begin with in JSON, so that one line changes where files moved


def write(target: Path, template: Template, limits: Limits) -> None:
    """Write references; they appear at once."""
    plan, refs, files = template.plan, template.refs, template.files
    if target.suffix != ".json" and find_spec("fastparquet") is None:
        raise ImportError("references in tables need fastparquet: pip install fastparquet")
    if refs.fill_value and (refs.which < 0).any():
        raise ValueError(
            f"Zarr 2 cannot say that empty slots are {refs.fill_value} without hiding such pixels: "
            'open the folder with fill_value=0, or write an index of icechunk, "NAME.icechunk"'
        )
    made = template.make(limits)
    real = dict(_copies(template, made))
    fresh = place.beside(target, "new")
    fresh.parent.mkdir(parents=True, exist_ok=True)
    places: list[tuple[str, int, int, int]] = []
    for image in plan.images:
        which, offsets, counts = (
            chunk_grid(plan, image, grid) for grid in (refs.which, refs.offsets, refs.counts)
        )
        for at in np.argwhere(offsets >= 0).tolist():
            key = f"{image.group(0)}/image/{'.'.join(map(str, at))}"
            k = tuple(at)
            places.append((key, int(which[k]), int(offsets[k]), int(counts[k])))
    try:
        if target.suffix == ".json":
            urls = [f"{FOLDER}{path}" for path in _below(files)]
            found: dict[str, Any] = {key: _text(data) for key, data in (made | real).items()}
            found |= {key: [urls[k], offset, count] for key, k, offset, count in places}
            text = {"version": 1, "templates": {"u": _address(files.root)}, "refs": found}
            fresh.write_text(json.dumps(text))
        else:
            _tables(fresh, made, real, files, places)
            if target.exists():
                shutil.rmtree(target)
        fresh.replace(target)
    finally:
        if fresh.is_dir():
            shutil.rmtree(fresh, ignore_errors=True)
        else:
            fresh.unlink(missing_ok=True)


def _text(data: bytes) -> str:
    """Spell bytes as references do."""
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(data).decode()
    return (
        text
        if text.startswith("{") and FOLDER not in text
        else ("base64:" + base64.b64encode(data).decode())
    )


def _copies(template: Template, made: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Encode what cannot be referred to, as the array of its image has it."""
    plan, refs = template.plan, template.refs
    for image, at, pixels in decoded(plan, refs):
        path = f"{image.group(0)}/image"
        about = json.loads(made[f"{path}/.zarray"])
        held: dict[str, Any] = {}
        about["shape"] = about["chunks"]
        store = zarr.storage.MemoryStore(held)
        with_one = zarr.create_array(
            store, shape=about["chunks"], chunks=about["chunks"], dtype=about["dtype"],
            zarr_format=2, filters=about["filters"], compressors=about["compressor"],
            fill_value=None, config={"write_empty_chunks": True},
        )  # fmt: skip
        with_one[tuple(map(slice, pixels.shape))] = pixels
        (data,) = (value for key, value in held.items() if not key.startswith(".z"))
        yield f"{path}/{'.'.join(map(str, at))}", data.to_bytes()


def _tables(
    folder: Path,
    made: dict[str, bytes],
    real: dict[str, bytes],
    files: Files,
    places: list[tuple[str, int, int, int]],
) -> None:
    """Write parquet tables, as fsspec reads them."""
    import fsspec
    from fsspec.implementations.reference import LazyReferenceMapper

    folder.mkdir()
    # Of tables that it writes with pyarrow, fsspec takes slots without a file for a number.
    refs = LazyReferenceMapper.create(
        str(folder), fs=fsspec.filesystem("file"), record_size=RECORDS, engine="fastparquet"
    )
    for key, data in (made | real).items():
        if key != ".zmetadata":  # which is made of the others
            refs[key] = data
    urls = [f"{_address(files.root)}{path}" for path in _below(files)]
    for key, k, offset, count in places:
        refs[key] = [urls[k], offset, count]
    refs.flush()


def open_store(
    target: Path, source: str | None, options: Mapping[str, Any] | None
) -> tuple[Any, Files]:
    """Open references with fsspec; returns a store of zarr, and the files."""
    text: dict[str, Any] = json.loads(target.read_text()) if target.suffix == ".json" else {}
    refs = text or str(target)
    reached: dict[str, Any] = {"remote_protocol": "file"}
    store = _store(refs, reached)
    group = zarr.open_group(store, mode="r", zarr_format=2)
    files, was = read_files(group, str(target)), str(group[GROUP].attrs["root"])
    root = source or files.root
    if root != was:
        _check_move(target, was, root)
        text["templates"] = {"u": _address(root)}
    if is_url(root):
        kind, base, _ = split(root)
        access = access_of(root) if options is None else Access(options).remember(base)
        reached = {"remote_protocol": kind, "remote_options": access.fsspec(kind)}
    if root != was or is_url(root):
        store = _store(refs, reached)
    return store, files.at(root)


def _store(references: dict[str, Any] | str, reached: dict[str, Any]) -> Any:
    """Open references as a store of zarr."""
    import fsspec

    options = {"asynchronous": True, **reached.get("remote_options", {})}
    reached = {**reached, "remote_options": options}
    fs = fsspec.filesystem("reference", fo=references, asynchronous=True, **reached)
    return zarr.storage.FsspecStore(fs, read_only=True, path="")


def _check_move(target: Path, was: str, root: str) -> None:
    """Refuse another folder where the references cannot be led to it."""
    again = f"make it again from there: tiffstack index {root} {target} --overwrite"
    if target.suffix != ".json":
        raise ValueError(
            f"{target} has the whole path of each file, below {was}, and they are in {root}: "
            f"{again}"
        )
    web = [is_url(each) and split(each).kind == "http" for each in (was, root)]
    if web[0] != web[1]:
        raise ValueError(
            f"the names of files are spelled otherwise at a web server, and {target} leads from "
            f"{was} to {root}: {again}"
        )


def _below(files: Files) -> list[str]:
    """Give what follows the address of the folder in those of its files."""
    if not is_url(files.root):
        return [f"/{path}" for path in files.paths]
    return [path.removeprefix(files.root.rstrip("/")) for path in files.full()]


def _address(folder: str) -> str:
    return folder.rstrip("/") if is_url(folder) else f"file://{folder}"

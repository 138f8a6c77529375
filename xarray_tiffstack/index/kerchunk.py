"""An index as kerchunk's references: a JSON file, or a folder of parquet tables, read by fsspec."""

from __future__ import annotations

import base64
import json
import os
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_tiffstack.index.files import Files, read_files
from xarray_tiffstack.index.pixels import chunk_grid, decoded
from xarray_tiffstack.ome_zarr import place

if TYPE_CHECKING:
    from collections.abc import Iterator
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
            urls = [f"{FOLDER}/{path}" for path in files.paths]
            found: dict[str, Any] = {key: _text(data) for key, data in (made | real).items()}
            found |= {key: [urls[k], offset, count] for key, k, offset, count in places}
            text = {"version": 1, "templates": {"u": f"file://{files.root}"}, "refs": found}
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
    import zarr

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
    urls = [f"file://{files.root}/{path}" for path in files.paths]
    for key, k, offset, count in places:
        refs[key] = [urls[k], offset, count]
    refs.flush()


def open_store(target: Path, source: str | None) -> tuple[Any, Files]:
    """Open references with fsspec; returns a store of zarr, and the files."""
    import fsspec
    import zarr

    options: dict[str, Any] = {"fo": str(target), "remote_protocol": "file"}
    if target.suffix == ".json":
        with open(target) as opened:
            options["fo"] = text = json.load(opened)
        if source is not None:
            text["templates"] = {"u": f"file://{source}"}
    fs = fsspec.filesystem("reference", asynchronous=False, **options)
    store = zarr.storage.FsspecStore.from_mapper(fs.get_mapper(""), read_only=True)
    files = read_files(zarr.open_group(store, mode="r", zarr_format=2), str(target))
    if source is None and target.suffix == ".json" and files.root != _root(text):
        return open_store(target, files.root)
    root = source or files.root
    return store, files.at(root)


def _root(text: dict[str, Any]) -> str:
    return os.fspath(str(text["templates"]["u"]).removeprefix("file://"))

"""Files of a bucket written back from a store that was made of them."""

from __future__ import annotations

import multiprocessing
import random
import shutil
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import obstore
import pytest
import tifffile
import xarray as xr
from conftest import ONE_FILE_A_BLOCK, to_ome_zarr, write
from test_restore import hashes
from test_restore_cloud import write_raw
from test_urls import Bucket, Web, bucket, moto, web

from xarray_tiffstack import restore
from xarray_tiffstack.array.complete import complete_files
from xarray_tiffstack.back.keeping import keeping
from xarray_tiffstack.cli import main
from xarray_tiffstack.storage import Access

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["bucket", "moto", "web"]  # fixtures

CELL = "cell_t{t:d}.tif"
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"metadata": None},
    "big-endian ImageJ": {"imagej": True, "byteorder": ">"},
    "OME": {"ome": True},
    "deflate with predictor": {"compression": "zlib", "predictor": True, "metadata": None},
    "tiles of LZW": {"compression": "lzw", "tile": (32, 48), "metadata": None},
    "zstd": {"compression": "zstd", "rowsperstrip": 16, "metadata": None},
}


def opened(source: Any, **options: Any) -> xr.Dataset:
    return xr.open_dataset(source, engine="tiffstack", **options)


def sums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file: a bucket has times of its own."""
    return {name: sha256 for name, (sha256, _) in hashes(folder).items()}


def test_the_files_of_a_bucket_come_back(bucket: Bucket, tmp_path: Path) -> None:
    raw, store = write_raw(tmp_path), tmp_path / "out.zarr"
    wanted, source = sums(raw), bucket.put(raw, "day 1/raw é")
    shutil.rmtree(raw)
    ds = opened(source, storage_options=bucket.options)
    summary = ds.tiffstack.to_ome_zarr(store, restorable=True, levels=2, progress=False)
    assert (summary.kept.files, summary.kept.others, summary.kept.left) == (16, 2, ())
    assert restore(store, tmp_path / "back").ok
    assert sums(tmp_path / "back") == wanted
    proof = ds.tiffstack.verify(store, restorable=True, progress=False).restorable
    assert (proof.ok, proof.files, proof.folder) == (True, 16, source)
    # Again: all is there, and nothing is written.
    again = ds.tiffstack.to_ome_zarr(store, restorable=True, levels=2, progress=False)
    assert (again.written, again.kept) == (0, summary.kept)

    write(tmp_path / "new/Settings.txt", 3)  # other bytes under the same name
    write(tmp_path / "new/late.tif", 4)
    bucket.put(tmp_path / "new", "day 1/raw é")
    proof = ds.tiffstack.verify(store, restorable=True, progress=False).restorable
    assert not proof.ok
    assert [line.partition(":")[0] for line in proof.failed] == ["Settings.txt", "late.tif"]
    assert "it has changed since it was converted" in proof.failed[0]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_file_comes_back(bucket: Bucket, tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(5)
    (tmp_path / "raw").mkdir()
    for t in range(3):
        planes = rng.poisson(100, (4, 64, 96)).astype("uint16")
        path = tmp_path / f"raw/cell_t{t}.tif"
        tifffile.imwrite(path, planes, photometric="minisblack", **KINDS[kind])
    source, store = bucket.put(tmp_path / "raw"), tmp_path / "out.zarr"
    ds = opened(source, pattern=CELL, pages="z", storage_options=bucket.options)
    bucket.proxy.fault = faults(0.1)
    kept = ds.tiffstack.to_ome_zarr(store, restorable=True, progress=False).kept
    bucket.proxy.fault = lambda request: None
    held = sum(p.stat().st_size for p in (store / "tiffstack/files").rglob("*") if p.is_file())
    assert (kept.files, kept.left) == (3, ())
    assert 0 < held < ds.nbytes / 2  # not the files as they are
    assert restore(store, tmp_path / "back").ok
    assert sums(tmp_path / "back") == sums(tmp_path / "raw")


def faults(share: float) -> Any:
    rng = random.Random(3)
    return lambda request: rng.choice(["500", "reset", "short"]) if rng.random() < share else None


def test_processes_keep_the_files_of_a_bucket(bucket: Bucket, tmp_path: Path) -> None:
    """They are told how it is reached."""
    raw, store = write_raw(tmp_path), tmp_path / "out.zarr"
    ds = opened(bucket.put(raw), storage_options=bucket.options)
    keeper = keeping(complete_files(ds), False)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, spawn) as executor:
        to_ome_zarr(ds, store, levels=1, keeper=keeper, executor=executor, limits=ONE_FILE_A_BLOCK)
    assert restore(store, tmp_path / "back").ok
    assert sums(tmp_path / "back") == sums(raw)


@pytest.mark.parametrize("at", range(1, 9))
def test_an_object_that_is_overwritten_meanwhile(bucket: Bucket, tmp_path: Path, at: int) -> None:
    """Its new bytes come back, or it is named; what comes back is never a mixture."""
    for t in range(3):
        write(tmp_path / f"raw/cell_t{t}.tif", t)
    ds = opened(bucket.put(tmp_path / "raw"), pattern=CELL, storage_options=bucket.options)
    count, later = [0], write(tmp_path / "new/cell_t1.tif", 99)
    server = f"http://127.0.0.1:{bucket.proxy.server}"  # not through the proxy, which waits
    beside, key = Access({**bucket.options, "endpoint_url": server}).store(
        f"s3://{bucket.name}/raw/cell_t1.tif"
    )

    def change(request: Any) -> None:
        count[0] += "cell_t1" in request.path
        if count[0] == at:
            count[0] += 1
            obstore.put(beside, key, later.read_bytes())

    bucket.proxy.fault = change
    store = tmp_path / "out.zarr"
    summary = ds.tiffstack.to_ome_zarr(store, restorable=True, progress=False)
    assert count[0] > at
    bucket.proxy.fault = lambda request: None
    done = restore(store, tmp_path / "back")
    back = sums(tmp_path / "back")
    named = [*summary.failed, *summary.kept.left, *done.failed]
    versions = {sums(tmp_path / "raw")["cell_t1.tif"], sums(tmp_path / "new")["cell_t1.tif"]}
    assert back.pop("cell_t1.tif", None) in versions or any("cell_t1" in str(n) for n in named)
    assert back == {k: v for k, v in sums(tmp_path / "raw").items() if k != "cell_t1.tif"}


@pytest.mark.parametrize("at", [2, 4, 6])
def test_an_object_that_cannot_be_read_any_more(bucket: Bucket, tmp_path: Path, at: int) -> None:
    """It is named, all others are kept, and the same call keeps it later."""
    for t in range(3):
        write(tmp_path / f"raw/cell_t{t}.tif", t)
    ds = opened(bucket.put(tmp_path / "raw"), pattern=CELL, storage_options=bucket.options)
    count = [0]

    def fail(request: Any) -> str | None:
        count[0] += "cell_t1" in request.path
        return "500" if "cell_t1" in request.path and count[0] > at else None

    bucket.proxy.fault = fail
    store, options = tmp_path / "out.zarr", {"restorable": True, "progress": False}
    summary = ds.tiffstack.to_ome_zarr(store, **options)
    bucket.proxy.fault = lambda request: None
    (line,) = summary.kept.left
    assert "cell_t1.tif" in line
    restore(store, tmp_path / "some")
    back = sums(tmp_path / "some")
    assert back == {k: v for k, v in sums(tmp_path / "raw").items() if k != "cell_t1.tif"}
    assert ds.tiffstack.to_ome_zarr(store, **options).kept.left == ()
    assert restore(store, tmp_path / "back").ok
    assert sums(tmp_path / "back") == sums(tmp_path / "raw")


def test_files_in_memory_come_back(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for t in range(2):
        path = write(tmp_path / f"raw/cell_t{t}.tif", t)
        memory.pipe(f"/restored/raw/{path.name}", path.read_bytes())
    ds = opened("memory://restored/raw", pattern=CELL)
    ds.tiffstack.to_ome_zarr(tmp_path / "out.zarr", restorable=True, progress=False)
    assert restore(tmp_path / "out.zarr", tmp_path / "back").ok
    assert sums(tmp_path / "back") == sums(tmp_path / "raw")
    memory.rm("/restored", recursive=True)


def test_a_web_server_lists_no_folder(web: Web, tmp_path: Path) -> None:
    write(web.folder / "cell_t0.tif", 0)
    ds = opened(web.urls(), pattern=CELL)
    with pytest.raises(ValueError, match=r"a web server, http://.*, lists none: leave it"):
        ds.tiffstack.to_ome_zarr(tmp_path / "out.zarr", restorable=True, progress=False)
    assert not (tmp_path / "out.zarr").exists()


def test_the_commands(bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, store, back = write_raw(tmp_path), str(tmp_path / "out.zarr"), tmp_path / "back"
    source = bucket.put(raw)
    said = {"key": "a", "secret": "b", "endpoint_url": bucket.proxy.url}
    reached = ["--storage-options", ",".join(f"{n}={v}" for n, v in said.items()), "--quiet"]
    assert main(["convert", source, store, "--restorable", *reached]) == 0
    assert main(["verify", source, store, "--restorable", *reached]) == 0
    assert "The raw folder can be deleted." in capsys.readouterr().out
    assert main(["restore", store, str(back), "--quiet"]) == 0
    assert sums(back) == sums(raw)

"""An index of files at URLs: written here, read from there, and refused where they changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from conftest import pixels, write, write_acquisition
from packaging.version import Version

from xarray_tiffstack import check_index, open_index, renew_index
from xarray_tiffstack.cli import main

icechunk = pytest.importorskip("icechunk", reason="icechunk 2.3 needs Python 3.12")
if Version(icechunk.__version__) < Version("2.3"):
    pytest.skip(f"icechunk {icechunk.__version__} is older than 2.3", allow_module_level=True)
pytest.importorskip("obstore")

from test_index import tables  # noqa: E402
from test_index_moved import commits, level  # noqa: E402
from test_urls import (  # noqa: E402
    SOON,
    Bucket,
    Web,
    bucket,
    moto,
    value,
    web,
)

__all__ = ["bucket", "moto", "web"]  # fixtures


CELL = "cell_t{t:d}.tif"


def opened(source: Any, **options: Any) -> xr.Dataset:
    return xr.open_dataset(source, engine="tiffstack", **options)


def same(got: xr.Dataset, ds: xr.Dataset) -> None:
    """Labels say where files were when they were indexed."""
    xr.testing.assert_equal(
        got.transpose(*ds.image.dims).drop_vars("path"), ds.load().drop_vars("path")
    )


@pytest.mark.parametrize("name", ["raw", "raw é 2"])
def test_an_index_of_a_bucket(bucket: Bucket, tmp_path: Path, name: str) -> None:
    folder = write_acquisition(tmp_path / name)
    source = bucket.put(folder, f"day 1/{name}")
    ds = opened(source, storage_options=bucket.options)
    index = tmp_path / "raw.icechunk"
    ds.tiffstack.to_virtual(index, levels=2)
    shutil.rmtree(folder)
    same(level(index, storage_options=bucket.options), ds)
    assert check_index(index, storage_options=bucket.options) == []

    # icechunk alone needs the keys only, and finds none in the index.
    keys = {"access_key_id": "a", "secret_access_key": "b"}
    access = icechunk.containers_credentials({f"{source}/": icechunk.s3_credentials(**keys)})
    repo = icechunk.Repository.open(
        icechunk.local_filesystem_storage(str(index)), authorize_virtual_chunk_access=access
    )
    alone = zarr.open_array(repo.readonly_session("main").store, path="0/image", mode="r")[...]
    np.testing.assert_array_equal(alone, level(index, storage_options=bucket.options).image)
    assert not any(b"secret" in p.read_bytes() for p in index.rglob("*") if p.is_file())


@pytest.mark.parametrize("how", ["at once", "later"])
def test_an_object_that_is_overwritten_is_an_error(
    bucket: Bucket, tmp_path: Path, how: str
) -> None:
    for t in range(3):
        write(tmp_path / f"raw/cell_t{t}.tif", t)
    source = bucket.put(tmp_path / "raw")
    ds = opened(source, pattern=CELL, storage_options=bucket.options)
    index = tmp_path / "raw.icechunk"
    ds.tiffstack.to_virtual(index)
    before = xr.open_datatree(open_index(index, storage_options=bucket.options), engine="zarr")
    write(tmp_path / "new/cell_t1.tif", 99)  # of the same size
    bucket.put(tmp_path / "new")
    if how == "at once":
        (line,) = check_index(index, storage_options=bucket.options)
        assert "cell_t1.tif has the ETag" in line
        with pytest.raises(ValueError, match=r"1 of 3 files changed"):
            open_index(index, storage_options=bucket.options)
    else:
        np.testing.assert_array_equal(np.squeeze(before["0"].image.sel(t=0)), pixels(0))
        with pytest.raises(icechunk.IcechunkError, match="has changed"):
            before["0"].image.sel(t=1).load()


def test_an_object_that_changes_while_it_is_indexed(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xarray_tiffstack.index import write as writing

    write(tmp_path / "raw/cell_t0.tif", 0)
    write(tmp_path / "raw/cell_t1.tif", 1)
    ds = opened(bucket.put(tmp_path / "raw"), pattern=CELL, storage_options=bucket.options)
    real = writing.references

    def slowly(*words: Any) -> Any:
        found = real(*words)
        write(tmp_path / "new/cell_t1.tif", 99)
        bucket.put(tmp_path / "new")
        return found

    monkeypatch.setattr(writing, "references", slowly)
    with pytest.raises(OSError, match=r"(?s)1 file changed meanwhile.*cell_t1"):
        ds.tiffstack.to_virtual(tmp_path / "raw.icechunk")
    assert not (tmp_path / "raw.icechunk").exists()


def test_directories_alone_are_read(bucket: Bucket, tmp_path: Path) -> None:
    """But for samples, by which the intensities to show are chosen."""
    (tmp_path / "raw").mkdir()
    for t in range(3):
        with tifffile.TiffWriter(tmp_path / f"raw/cell_t{t}.tif") as file:
            for z in range(8):
                plane = np.full((512, 512), value(t, z), "uint16")
                file.write(plane, contiguous=False, metadata=None)
    ds = opened(bucket.put(tmp_path / "raw"), pattern=CELL, storage_options=bucket.options)
    bucket.proxy.clear()
    found = ds.tiffstack.to_virtual(tmp_path / "raw.icechunk")
    assert (found.references, found.copied) == (24, {})
    assert bucket.proxy.nbytes < ds.nbytes / 4
    store = open_index(tmp_path / "raw.icechunk", storage_options=bucket.options)
    image = xr.open_datatree(store, engine="zarr")["0"].image
    bucket.proxy.clear()
    assert (image.sel(t=2).isel(z=5) == value(2, 5)).all()
    assert bucket.proxy.nbytes == 2 * 512 * 512


def test_an_index_of_a_web_server(web: Web, tmp_path: Path) -> None:
    for t in range(3):
        write(web.folder / f"cell µ_t{t}.tif", t)
    names = [urllib.request.pathname2url(path.name) for path in sorted(web.folder.iterdir())]
    ds = opened([f"{web.proxy.url}/{name}" for name in names], pattern="cell%20%C2%B5_t{t:d}.tif")
    index = tmp_path / "raw.icechunk"
    ds.tiffstack.to_virtual(index)
    same(level(index), ds)
    write(web.folder / "cell µ_t1.tif", 99)
    (line,) = check_index(index)
    assert "cell µ_t1.tif has the ETag" in line
    with pytest.raises(icechunk.IcechunkError, match="has changed"):
        level(index, check=False)


def test_an_index_on_a_web_server(web: Web, tmp_path: Path) -> None:
    folder = write_acquisition(web.folder / "raw é")
    ds = opened(folder)
    ds.tiffstack.to_virtual(web.folder / "raw.icechunk", levels=2)
    url = f"{web.proxy.url}/raw.icechunk"
    # Servers tell other times than the disk did, and ETags, which the disk has not.
    with pytest.raises(ValueError, match="15 of 15 files changed"):
        open_index(url)
    same(level(url, check=False), ds)
    names = [urllib.request.pathname2url(path.name) for path in sorted(folder.iterdir())]
    there = opened([f"{web.proxy.url}/raw%20%C3%A9/{name}" for name in names])
    there.tiffstack.to_virtual(web.folder / "web.icechunk")
    same(level(f"{web.proxy.url}/web.icechunk"), there)


def test_it_grows_with_the_bucket_and_moves(bucket: Bucket, tmp_path: Path) -> None:
    """An index of more files is a commit; files that were copied elsewhere are compared."""
    folder = tmp_path / "raw"
    for t in range(2):
        write(folder / f"cell_t{t}.tif", t)
    index, given = tmp_path / "raw.icechunk", {"storage_options": bucket.options}
    how = {"pattern": CELL, **given}
    opened(bucket.put(folder), **how).tiffstack.to_virtual(index)
    write(folder / "cell_t2.tif", 2)
    source = bucket.put(folder)
    opened(source, **how).tiffstack.to_virtual(index, overwrite=True)
    assert commits(index) == 3  # with the empty one
    assert level(index, **given).sizes["t"] == 3

    there = bucket.put(folder, "elsewhere")
    found = renew_index(index, there, **given)
    assert found.renewed in (0, 3)  # a server may make equal ETags of equal bytes
    same(level(index, **given), opened(there, **how))
    shutil.copytree(folder, tmp_path / "here")
    renew_index(index, tmp_path / "here")
    same(level(index), opened(tmp_path / "here", pattern=CELL))


def test_the_command_for_a_bucket(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = bucket.put(write_acquisition(tmp_path / "raw"))
    options = ",".join(f"{key}={value}" for key, value in bucket.options.items() if key not in SOON)
    index = str(tmp_path / "raw.icechunk")
    assert main(["index", source, index, "--storage-options", options, "--quiet"]) == 0
    assert main(["info", index, "--storage-options", options]) == 0
    assert "488" in capsys.readouterr().out
    assert main(["index", source, index, "--check", "--storage-options", options]) == 0


def test_each_command_is_told_how_the_files_are_reached(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a process of its own: this one remembers how they were reached before."""
    source = bucket.put(write_acquisition(tmp_path / "raw"))
    options = ",".join(f"{key}={value}" for key, value in bucket.options.items() if key not in SOON)
    index, page = str(tmp_path / "raw.icechunk"), str(tmp_path / "page.html")
    for words in (
        ["index", source, index, "--quiet", "--follow", "--expect", "15"],
        ["info", index],
        ["preview", index, page],
    ):
        program = "import sys; from xarray_tiffstack.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", program, *words, "--storage-options", options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert not done.returncode, done.stderr
        if words[0] == "info":
            assert f"open_index({index!r}, storage_options={{...}})" in done.stdout
    assert commits(Path(index)) == 5  # the empty one, of two time points, and of each later one
    assert level(index, storage_options=bucket.options).sizes["stack"] == 5


# --- references of kerchunk, and of VirtualiZarr ------------------------------------------------


def by_labels(index: Path, source: Any = None, **options: Any) -> xr.Dataset:
    store = open_index(index, source, **options)
    return xr.open_zarr(store, group="0", zarr_format=2, consolidated=False).load()


@tables
@pytest.mark.parametrize("name", ["raw.json", "raw.parq"])
def test_references_to_a_bucket(bucket: Bucket, tmp_path: Path, name: str) -> None:
    if name.endswith("parq"):
        pytest.importorskip("fastparquet")
    source = bucket.put(write_acquisition(tmp_path / "raw"), "day #1 é%20/raw")
    ds, index = opened(source, storage_options=bucket.options), tmp_path / name
    ds.tiffstack.to_virtual(index)
    same(by_labels(index, storage_options=bucket.options), ds)
    # Nothing of this package, in a process that was told nothing.
    program = (
        "import fsspec, json, sys, zarr; index, options = sys.argv[1], json.loads(sys.argv[2])\n"
        "fs = fsspec.filesystem('reference', fo=index, remote_protocol='s3',\n"
        "        remote_options=options | {'asynchronous': True}, asynchronous=True)\n"
        "store = zarr.storage.FsspecStore(fs, read_only=True, path='')\n"
        "array = zarr.open_array(store, path='0/image', mode='r', zarr_format=2)\n"
        "print(int(array[...].astype('u8').sum()), *array.shape)\n"
    )
    keys = {name: value for name, value in bucket.options.items() if name not in SOON}
    command = [sys.executable, "-W", "ignore", "-c", program, str(index), json.dumps(keys)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert not done.returncode, done.stderr
    image = ds.image.transpose("stack", "channel", "z", "y", "x").astype("u8")
    assert done.stdout.split() == [str(int(image.sum())), *map(str, image.shape)]
    held = [index] if index.is_file() else [p for p in index.rglob("*") if p.is_file()]
    assert not any(b"secret" in path.read_bytes() for path in held)

    write(tmp_path / "new" / sorted((tmp_path / "raw").iterdir())[4].name, 99)
    bucket.put(tmp_path / "new", "day #1 é%20/raw")
    with pytest.raises(ValueError, match="1 of 15 files changed"):
        open_index(index, storage_options=bucket.options)


def test_references_to_a_web_server(web: Web, tmp_path: Path) -> None:
    for t in range(3):
        write(web.folder / f"cell_t{t} #µ.tif", t)
    names = [urllib.request.pathname2url(path.name) for path in sorted(web.folder.iterdir())]
    ds = opened(
        [f"{web.proxy.url}/{name}" for name in names], pattern="cell_t{t:d}%20%23%C2%B5.tif"
    )
    ds.tiffstack.to_virtual(tmp_path / "raw.json")
    same(by_labels(tmp_path / "raw.json"), ds)
    with pytest.raises(ValueError, match=r"spelled otherwise.*make it again from there"):
        open_index(tmp_path / "raw.json", web.folder)


@tables
def test_references_follow_their_files_into_a_bucket(bucket: Bucket, tmp_path: Path) -> None:
    folder = write_acquisition(tmp_path / "raw")
    ds = opened(folder)
    ds.tiffstack.to_virtual(tmp_path / "raw.json")
    source = bucket.put(folder)
    got = by_labels(tmp_path / "raw.json", source, storage_options=bucket.options, check=False)
    assert any(request.method == "GET" for request in bucket.proxy.requests)
    same(got, ds)
    with pytest.raises(ValueError, match="15 of 15 files changed"):  # times, and no ETags
        open_index(tmp_path / "raw.json", source, storage_options=bucket.options)
    pytest.importorskip("fastparquet")
    opened(folder).tiffstack.to_virtual(tmp_path / "raw.parq")
    with pytest.raises(ValueError, match=r"whole path of each file.*make it again from there"):
        open_index(tmp_path / "raw.parq", source, storage_options=bucket.options)


def test_virtualizarr_refers_to_objects(bucket: Bucket, tmp_path: Path) -> None:
    pytest.importorskip("virtualizarr", "2.8")
    source = bucket.put(write_acquisition(tmp_path / "raw"), "day #1 é%20/raw")
    ds = opened(source, storage_options=bucket.options)
    prefix = f"s3://{bucket.name}/"
    config = icechunk.RepositoryConfig.default()
    keys = {"access_key_id": "a", "secret_access_key": "b"}
    place = icechunk.s3_store(
        region="us-east-1", endpoint_url=bucket.proxy.url, allow_http=True, force_path_style=True,
        s3_compatible=True,
    )  # fmt: skip
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, place))
    access = icechunk.containers_credentials({prefix: icechunk.s3_credentials(**keys)})
    repo = icechunk.Repository.create(icechunk.in_memory_storage(), config, access)
    session = repo.writable_session("main")
    ds.tiffstack.virtual().vz.to_icechunk(session.store)
    session.commit("virtual")
    got = xr.open_zarr(repo.readonly_session("main").store, consolidated=False)
    xr.testing.assert_equal(got.load(), ds.load())

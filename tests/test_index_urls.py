"""An index of files at URLs: written here, read from there, and refused where they changed."""

from __future__ import annotations

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
    with pytest.raises(ValueError, match=r"kerchunk are to files on disks.*NAME\.icechunk"):
        opened(source, storage_options=bucket.options).tiffstack.to_virtual(tmp_path / "raw.json")


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
    assert commits(Path(index)) == 5  # the empty one, of two time points, and of each later one
    assert level(index, storage_options=bucket.options).sizes["stack"] == 5

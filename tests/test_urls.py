"""Sources at a URL: an S3 server of this machine, which moto brings, and a plain HTTP server.

All requests go through a proxy, which counts them, and fails when it is told to.
"""

from __future__ import annotations

import os
import pickle
import random
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import cloud
import dask
import numpy as np
import pytest
import tifffile
import xarray as xr
from conftest import pixels, write, write_acquisition
from proxy import FAULTS, Proxy
from served import Served

from xarray_tiffstack import scan, tiff
from xarray_tiffstack.storage import Access, Remote, sizes
from xarray_tiffstack.tiff.file import File
from xarray_tiffstack.tiff.remote import with_file
from xarray_tiffstack.tiff.walk import walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

obstore = pytest.importorskip("obstore")
PATTERN = "cell_t{t:d}.tif"
# So that what never comes right is given up within seconds.
SOON = {
    "retry_config": {
        "max_retries": 3,
        "backoff": {"init_backoff": timedelta(milliseconds=10), "base": 2},
    },
    "client_options": {"timeout": timedelta(seconds=2)},
}
PLANE = (96, 192)


def opened(source: Any, **options: Any) -> xr.Dataset:
    options.setdefault("pattern", PATTERN)
    return xr.open_dataset(source, engine="tiffstack", **options)


def value(t: int, z: int) -> int:
    return 1000 * t + z


def write_stack(path: Path, t: int, planes: int, **options: Any) -> Path:
    """Write a stack with a directory between each plane and the next."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as file:
        for z in range(planes):
            plane = np.full(PLANE, value(t, z), "uint16")
            plane[0, 0] = 9
            file.write(plane, contiguous=False, metadata=None, **options)
    return path


class Web:
    """A folder behind an HTTP server and the proxy."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.server = Served(folder, **options)
        self.proxy = Proxy(self.server.port)

    def urls(self) -> list[str]:
        return [f"{self.proxy.url}/{path.name}" for path in sorted(self.folder.glob("*.tif"))]

    def close(self) -> None:
        self.proxy.close()
        self.server.close()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "web").mkdir()
    web = Web(tmp_path / "web")
    yield web
    web.close()


@pytest.fixture(scope="module")
def moto() -> Iterator[int]:
    """Port of an S3 server."""
    with cloud.moto() as port:
        yield port


class Bucket:
    """An empty bucket behind the proxy."""

    number = 0

    def __init__(self, port: int) -> None:
        Bucket.number += 1
        self.name = f"bucket{Bucket.number}"
        self.proxy = Proxy(port)
        self.options = {"key": "a", "secret": "b", "endpoint_url": self.proxy.url, **SOON}
        make = urllib.request.Request(f"{self.proxy.url}/{self.name}", method="PUT")
        urllib.request.urlopen(make).close()
        self.store, _ = Access(self.options).store(f"s3://{self.name}/x")

    def put(self, folder: Path, at: str = "raw") -> str:
        """Put the files of a folder into the bucket, and return their URL."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = f"{at}/{path.relative_to(folder).as_posix()}"
                obstore.put(self.store, key, path.read_bytes())
        self.proxy.clear()
        return f"s3://{self.name}/{at}"


@pytest.fixture
def bucket(moto: int) -> Iterator[Bucket]:
    bucket = Bucket(moto)
    yield bucket
    bucket.proxy.close()


# --- which files there are ------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files in two folders, and what is left out of a listing."""
    for t in range(3):
        for day in (1, 2):
            write(tmp_path / f"raw/day{day}/cell_t{t}.tif", 3 * day + t)
    write(tmp_path / "raw/.hidden.tif", 0)
    write(tmp_path / "raw/out.zarr/cell_t9.tif", 0)
    (tmp_path / "raw/notes.txt").write_text("x")
    return tmp_path / "raw"


DAYS = "day{day:d}/cell_t{t:d}.tif"


def test_a_folder_in_a_bucket_is_as_one_on_a_disk(bucket: Bucket, folder: Path) -> None:
    url = bucket.put(folder)
    for source in (url, f"{url}/"):
        ds = opened(source, pattern=DAYS, storage_options=bucket.options)
        local = opened(folder, pattern=DAYS)
        np.testing.assert_array_equal(ds.image, local.image)
        assert ds.attrs["source"] == url
        assert ds.path.sel(day=2, t=1).item() == f"{url}/day2/cell_t1.tif"
        assert dict(ds.sizes) == dict(local.sizes)


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        ("day1/*.tif", ["day1/cell_t0.tif", "day1/cell_t1.tif", "day1/cell_t2.tif"]),
        ("**/cell_t2.tif", ["day1/cell_t2.tif", "day2/cell_t2.tif"]),
        ("day[2]/cell_t?.tif", ["day2/cell_t0.tif", "day2/cell_t1.tif", "day2/cell_t2.tif"]),
        ("day2/cell_t0.tif", ["day2/cell_t0.tif"]),
    ],
)
def test_globs_and_single_files(bucket: Bucket, folder: Path, glob: str, names: list[str]) -> None:
    url = bucket.put(folder)
    table = scan(f"{url}/{glob}", "[day{day:d}/]cell_t{t:d}.tif", storage_options=bucket.options)
    assert table["path"].tolist() == [f"{url}/{name}" for name in names]


def test_a_table_of_urls_is_opened_as_it_was_scanned(bucket: Bucket, folder: Path) -> None:
    url = bucket.put(folder)
    table = scan(url, DAYS, storage_options=bucket.options)
    ds = opened(table[table["day"] == 2], pattern=None)
    np.testing.assert_array_equal(ds.image.sel(t=1), pixels(7))


def test_a_local_url(folder: Path) -> None:
    ds = opened(folder.as_uri(), pattern=DAYS)
    assert ds.attrs["source"] == str(folder)
    np.testing.assert_array_equal(ds.image, opened(folder, pattern=DAYS).image)
    files = [path.as_uri() for path in folder.glob("day1/*.tif")]
    np.testing.assert_array_equal(opened(files).image, opened(folder / "day1").image)


def test_a_source_in_memory(folder: Path) -> None:
    """Written by fsspec, as the ecosystem has it; of this process alone."""
    from fsspec.implementations.memory import MemoryFileSystem

    files = MemoryFileSystem()
    for path in folder.rglob("*.tif"):
        files.pipe_file(f"/raw/{path.relative_to(folder).as_posix()}", path.read_bytes())
    try:
        local = opened(folder, pattern=DAYS)
        for source in ("memory://raw", "memory:///raw/", "memory://raw/day*/*.tif"):
            ds = opened(source, pattern=DAYS)
            np.testing.assert_array_equal(ds.image, local.image)
            assert ds.path.sel(day=2, t=1).item() == "memory://raw/day2/cell_t1.tif"
            assert ds.tiffstack.report().matched == 6
        summary = ds.tiffstack.to_ome_zarr("memory://out.zarr", progress=False)
        assert (summary.files, summary.failed) == (6, ())
        assert ds.tiffstack.verify("memory://out.zarr", progress=False).ok
        found = xr.open_datatree("memory://out.zarr", engine="zarr")["1/0"].image
        np.testing.assert_array_equal(found.sel(t=1), pixels(7))
        with ProcessPoolExecutor(1) as far, pytest.raises(ValueError, match="a source in the mem"):
            ds.tiffstack.to_ome_zarr(folder.parent / "out.zarr", executor=far)
        with pytest.raises(ValueError, match="is inside the source"):
            ds.tiffstack.to_ome_zarr("memory://raw/out.zarr")
        # What is written anew is read anew.
        files.pipe_file("/raw/day2/cell_t1.tif", (folder / "day1/cell_t0.tif").read_bytes())
        assert not ds.tiffstack.verify("memory://out.zarr", progress=False).ok
        np.testing.assert_array_equal(ds.image.sel(day=2, t=1), pixels(3))
        files.rm("/raw/day2/cell_t1.tif")
        assert not ds.tiffstack.verify("memory://out.zarr", progress=False).ok
        with pytest.raises(OSError, match=r"memory://raw/day2/cell_t1.tif does not exist"):
            ds.image.sel(day=2, t=1).load()
        with pytest.raises(FileNotFoundError, match="no TIFF in memory://absent"):
            opened("memory://absent")
    finally:
        for name in ("/raw", "/out.zarr"):
            files.rm(name, recursive=True)


def test_sources_that_are_refused(bucket: Bucket, folder: Path, web: Web) -> None:
    url = bucket.put(folder)
    options = bucket.options
    with pytest.raises(FileNotFoundError, match=r"no TIFF in s3://.*/absent"):
        opened(f"s3://{bucket.name}/absent", storage_options=options)
    with pytest.raises(FileNotFoundError, match=r"s3://.*/cell_t7.tif does not exist"):
        opened(f"{url}/day1/cell_t7.tif", storage_options=options)
    files = [f"{url}/day1/cell_t0.tif", f"{url}/day1/cell_t7.tif"]
    with pytest.raises(FileNotFoundError, match="1 of 2 files do not exist"):
        opened(files, storage_options=options)
    with pytest.raises(ValueError, match="one server or in one bucket"):
        opened([f"{url}/day1/cell_t0.tif", "s3://other/day1/cell_t1.tif"])
    with pytest.raises(ValueError, match="one server or in one bucket"):
        opened([f"{url}/day1/cell_t0.tif", folder / "day1/cell_t1.tif"])
    with pytest.raises(OSError, match="gives no listing: give a list of the URLs"):
        opened(f"{web.proxy.url}/raw/")
    with pytest.raises(ValueError, match="ftp:// is not read"):
        opened("ftp://example.org/raw/")
    with pytest.raises(ValueError, match="with a password"):
        opened(["https://me:secret@example.org/cell_t0.tif"])
    with pytest.raises(ValueError, match="storage_options of s3://"):
        opened(url, storage_options={**options, "colour": "red"})


def test_an_empty_object(bucket: Bucket, tmp_path: Path) -> None:
    for t in range(3):
        write(tmp_path / f"raw/cell_t{t}.tif", t)
    (tmp_path / "raw/cell_t1.tif").write_bytes(b"")
    url = bucket.put(tmp_path / "raw")
    with pytest.warns(UserWarning, match=r"cell_t1.tif is empty \(0 bytes\)"):
        ds = opened(url, storage_options=bucket.options)
    assert ds.present.values.tolist() == [True, False, True]
    with pytest.raises(OSError, match=r"cell_t1.tif is empty \(0 bytes\)"):
        tiff.probe(f"{url}/cell_t1.tif")


def test_settings_beside_the_files(bucket: Bucket, acquisition: Path) -> None:
    text = "# of stacks (0) :\t200\nZ motion :\tSample piezo\n"
    (acquisition / "ex6-2_Settings.txt").write_text(text)
    url = bucket.put(acquisition)
    ds = opened(url, pattern=None, storage_options=bucket.options)
    assert ds.image.attrs["z_motion"] == "Sample piezo"


# --- what is asked of the server ------------------------------------------------------------


def test_requests_of_a_stack_of_many_directories(web: Web) -> None:
    for t in range(3):
        write_stack(web.folder / f"cell_t{t}.tif", t, 201)
    total = (web.folder / "cell_t0.tif").stat().st_size
    ds = opened(web.urls())
    looks, head = 3, 1  # at the sizes of three files; and the beginning of one
    asked = [r for r in web.proxy.requests if r.method == "GET"]
    assert len(web.proxy.requests) - len(asked) == looks
    assert len(asked) <= head + 201
    assert web.proxy.nbytes < total / 10
    web.proxy.clear()

    np.testing.assert_array_equal(ds.image.isel(t=0, z=150).values[1], value(0, 150))
    assert [r.nbytes for r in web.proxy.requests] == [2 * PLANE[0] * PLANE[1]]
    web.proxy.clear()
    np.testing.assert_array_equal(ds.image.isel(t=0, z=151, y=5).values, value(0, 151))
    assert [r.nbytes for r in web.proxy.requests] == [2 * PLANE[1]]
    web.proxy.clear()

    # A file of the same length: its beginning, its last directory, the pixels.
    np.testing.assert_array_equal(ds.image.isel(t=1, z=7)[1], value(1, 7))
    assert len(web.proxy.requests) == 3


@pytest.mark.parametrize("bigtiff", [False, True])
def test_directories_of_compressed_pages_are_read_ahead(web: Web, bigtiff: bool) -> None:
    """They lie at unequal distances; those close to each other are read with what is between."""
    rng, planes = np.random.default_rng(0), 120
    stack = rng.integers(0, 4, (planes, 96, 192)).astype("uint16")
    for z in range(planes):
        stack[z, : rng.integers(20, 90)] = z
    with tifffile.TiffWriter(web.folder / "cell_t0.tif", bigtiff=bigtiff) as file:
        for plane in stack:
            options: dict[str, Any] = {"compression": "zlib", "rowsperstrip": 16}
            file.write(plane, contiguous=False, metadata=None, **options)
    opening = opened(web.urls())
    asked = [request for request in web.proxy.requests if request.method == "GET"]
    assert len(asked) <= 12  # 118, one after the other, without that
    web.proxy.clear()
    for z in (77, 3, 119):
        np.testing.assert_array_equal(opening.image.isel(z=z), stack[z])
    assert len(web.proxy.requests) <= 6
    np.testing.assert_array_equal(opening.image, stack)


def compressed(path: Path, stack: np.ndarray, **options: Any) -> None:
    with tifffile.TiffWriter(path) as file:
        for plane in stack:
            file.write(plane, contiguous=False, metadata=None, **options)


@pytest.mark.parametrize("options", [{"compression": "zlib"}, {"compression": "zstd"}])
@pytest.mark.parametrize("channels", [1, 2])
def test_directories_far_apart_are_read_where_they_are_likely(
    web: Web, options: dict[str, Any], channels: int
) -> None:
    """Pages of noise are compressed to nearly the same length; so are those of each channel."""
    planes, brightness = 120, np.tile([900, 300][:channels], 120 // channels)
    stack = np.random.default_rng(0).poisson(brightness[:, None, None], (planes, 300, 400))
    stack = stack.astype("uint16")
    compressed(web.folder / "cell_t0.tif", stack, predictor=True, **options)
    total = (web.folder / "cell_t0.tif").stat().st_size
    assert total > planes * (1 << 16)
    alone = []
    web.proxy.delay = 0.05
    web.proxy.fault = lambda request: alone.append(web.proxy.now == 1)
    ds = opened(web.urls())
    assert len(alone) <= planes + 12
    assert sum(alone) <= 40  # 120, one after the other, without that
    assert web.proxy.nbytes < total / 10
    web.proxy.delay = 0
    # The pixels in the windows are not kept.
    assert sum(map(len, Remote.of(web.urls()[0], Access()).kept)) < (1 << 16) + planes * 4096
    np.testing.assert_array_equal(ds.image, stack)


def test_pages_of_wild_lengths_cost_little_more(web: Web) -> None:
    rng, planes = np.random.default_rng(0), 120
    stack = rng.integers(0, 60000, (planes, 300, 400), "uint16")
    for z in range(planes):
        stack[z, rng.integers(120, 300) :] = z
    compressed(web.folder / "cell_t0.tif", stack, compression="zlib")
    ds = opened(web.urls())
    assert len([r for r in web.proxy.requests if r.method == "GET"]) <= planes + 20
    # The beginning, 4 KiB for each, and as many bytes in vain as the beginning has.
    assert web.proxy.nbytes <= (planes << 12) + (2 << 16)
    np.testing.assert_array_equal(ds.image, stack)


def write_chain(path: Path, places: list[int], last: int, order: str, big: bool) -> None:
    """Write directories at some places, of pages of one pixel; the last one leads to `last`."""
    wide, count, link = ("Q", "Q", "Q") if big else ("H", "I", "I")
    with path.open("wb") as file:
        head = struct.pack(f"{order}HHH", 43, 8, 0) if big else struct.pack(f"{order}H", 42)
        mark = b"II" if order == "<" else b"MM"
        file.write(mark + head + struct.pack(order + link, places[0]))
        for k, (at, after) in enumerate(zip(places, [*places[1:], last], strict=True)):
            file.seek(at - 2)
            file.write(struct.pack(f"{order}H", k))
            tags = {256: 1, 257: 1, 258: 16, 259: 1, 262: 1, 273: at - 2, 277: 1, 278: 1, 279: 2}
            file.write(struct.pack(order + wide, len(tags)))
            for code, number in tags.items():
                value = struct.pack(f"{order}I", number).ljust(struct.calcsize(link), b"\0")
                file.write(struct.pack(f"{order}HH{count}", code, 4, 1) + value)
            file.write(struct.pack(order + link, after))


def lengths(rng: np.random.Generator) -> np.ndarray:
    """Distances of directories: nearly equal, in cycles, with a trend, in runs, or wild."""
    planes, mean = int(rng.integers(2, 140)), 10 ** rng.uniform(3.5, 5.7)
    cycle = rng.uniform(0.5, 1.5, rng.integers(1, 6))
    found = mean * np.resize(cycle, planes) * rng.normal(1, 10 ** rng.uniform(-5, -1), planes)
    found *= np.linspace(1, rng.uniform(0.7, 1.4), planes)
    if rng.random() < 0.3:
        start = rng.integers(planes)
        found[start : start + rng.integers(40)] = mean
    return np.maximum(found, 300).astype(int)


@pytest.mark.parametrize("seed", range(30))
def test_a_walk_finds_what_is_on_a_disk(web: Web, seed: int) -> None:
    """Also where the chain goes back, in a circle, or where no directory is."""
    rng = np.random.default_rng(seed)
    places = (400 + np.cumsum(lengths(rng))).tolist()
    if rng.random() < 0.3:
        a = int(rng.integers(len(places)))
        b = a + int(rng.integers(9))
        places[a:b] = places[a:b][::-1]
    ahead = 2 * places[-1] - places[-2]
    ends = [0, 0, places[rng.integers(len(places))], places[-1] + 7, ahead, 2**32 - 8]
    last = ends[rng.integers(len(ends))]
    path = web.folder / "cell_t0.tif"
    write_chain(path, places, last, "<>"[seed % 2], seed % 3 == 0)
    if rng.random() < 0.5:  # else the last directory ends the file
        os.truncate(path, path.stat().st_size + int(rng.integers(1 << 20)))
    with File(path) as file:
        local = walk(file)
    (url,) = web.urls()
    found = with_file(url, walk)
    assert found == local
    assert list(found.blocks) == list(local.blocks) == places
    assert local.circle == (last in places)
    assert local.broken == (last > 0 and not local.circle)
    assert len(web.proxy.requests) <= 4 * 256 + 2 * len(places) + 40
    if not last:
        layout = tiff.probe(path)
        numbers = np.arange(len(places), dtype="uint16")
        np.testing.assert_array_equal(tiff.read(url, layout, (slice(None),) * 3).ravel(), numbers)


@pytest.mark.parametrize("end", ["circle", "zeros", "beyond"])
def test_a_chain_that_ends_wrong_where_its_windows_are(web: Web, end: str) -> None:
    steps = np.random.default_rng(0).normal(1e5, 100, 60).astype(int)
    places = (400 + np.cumsum(steps)).tolist()
    # The last page leads to an earlier one, or to where no directory is.
    last = {"circle": places[20], "zeros": places[-1] + 100_000, "beyond": 2**31}[end]
    path = web.folder / "cell_t0.tif"
    write_chain(path, places, last, "<", False)
    os.truncate(path, path.stat().st_size + 1_000_000)
    with File(path) as file:
        local = walk(file)
    web.proxy.delay = 0.05
    alone = []
    web.proxy.fault = lambda request: alone.append(web.proxy.now == 1)
    found = with_file(web.urls()[0], walk)
    assert found == local
    assert (found.circle, found.broken) == (end == "circle", end != "circle")
    assert list(found.blocks) == places
    assert sum(alone) <= 30  # 60, one after the other


def test_directories_at_the_end_are_one_request(web: Web) -> None:
    planes = np.arange(50 * 64 * 128, dtype="uint32").reshape(50, 64, 128)
    tifffile.imwrite(web.folder / "cell_t0.tif", planes, metadata=None, contiguous=True)
    ds = opened(web.urls())
    np.testing.assert_array_equal(ds.image.isel(z=31), planes[31])
    assert len([r for r in web.proxy.requests if r.method == "GET"]) <= 3


def test_strips_of_a_page_are_one_request(web: Web) -> None:
    planes = np.random.default_rng(0).integers(0, 99, (9, 256, 256), "uint16")
    options: dict[str, Any] = {"compression": "zlib", "rowsperstrip": 16, "metadata": None}
    tifffile.imwrite(web.folder / "cell_t0.tif", planes, **options)
    ds = opened(web.urls())
    web.proxy.clear()
    np.testing.assert_array_equal(ds.image.isel(z=8), planes[8])
    assert len(web.proxy.requests) <= 2
    web.proxy.clear()
    np.testing.assert_array_equal(ds.image.isel(z=7, y=slice(100, 130)), planes[7, 100:130])
    assert web.proxy.nbytes < planes[7].nbytes / 2


def test_many_files_are_waited_for_at_once(web: Web) -> None:
    for t in range(60):
        write_stack(web.folder / f"cell_t{t:02d}.tif", t, 8)
    ds = opened(web.urls())
    web.proxy.clear()
    web.proxy.delay = 0.05
    kymograph = ds.image.isel(z=5, y=3)
    np.testing.assert_array_equal(kymograph, [[value(t, 5)] * PLANE[1] for t in range(60)])
    assert 16 <= web.proxy.most <= 32
    assert len(web.proxy.requests) <= 3 * 60
    # Chunks that somebody asked for stay.
    assert len(ds.chunk(t=1).image.isel(z=5).chunks[0]) == 60


def test_small_files_are_one_request_each(web: Web) -> None:
    for t in range(5):
        write(web.folder / f"cell_t{t}.tif", t)
    ds = opened(web.urls())
    web.proxy.clear()
    np.testing.assert_array_equal(ds.image, np.stack([pixels(t) for t in range(5)]))
    assert len(web.proxy.requests) == 5
    # One was read for its header; whether it is the same still is asked by one byte.
    assert Counter(request.range for request in web.proxy.requests)["bytes=0-0"] == 1


def test_a_listing_tells_the_sizes(bucket: Bucket, tmp_path: Path) -> None:
    for t in range(40):
        write(tmp_path / f"raw/cell_t{t:02d}.tif", t)
    url = bucket.put(tmp_path / "raw")
    ds = opened(url, storage_options=bucket.options)
    assert len(bucket.proxy.requests) == 2  # the listing, and one file
    bucket.proxy.clear()
    report = ds.tiffstack.report()
    assert (report.matched, report.missing) == (40, [])
    assert len(bucket.proxy.requests) == 1


def test_a_store_in_a_bucket_is_looked_at(bucket: Bucket, tmp_path: Path) -> None:
    ds = xr.open_dataset(write_acquisition(tmp_path / "raw"), engine="tiffstack")
    ds.tiffstack.to_ome_zarr(tmp_path / "a.ome.zarr", levels=1, progress=False)
    store = bucket.put(tmp_path / "a.ome.zarr", "made/a.ome.zarr")
    spelled = {"secret": "secret_access_key"}  # as obstore has it; s3fs, which reads it, does not
    said = {spelled.get(n, n): v for n, v in bucket.options.items() if n not in SOON}
    words = ",".join(f"{name}={value}" for name, value in said.items())
    command = [sys.executable, "-m", "xarray_tiffstack", "info", store, "--storage-options", words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert not done.returncode, done.stderr
    assert f"xarray.open_datatree({store!r}" in done.stdout
    assert "storage_options={...}" in done.stdout


# --- all kinds of TIFF ----------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "imagej": {"imagej": True},
    "ome": {"ome": True},
    "big-endian": {"byteorder": ">"},
    "big-endian ImageJ": {"imagej": True, "byteorder": ">"},
    "BigTIFF": {"bigtiff": True},
    "strips": {"rowsperstrip": 7},
    "lzw": {"compression": "lzw", "predictor": True},
    "zlib": {"compression": "zlib", "rowsperstrip": 16},
    "jpeg2000": {"compression": "jpeg2000"},
    "tiles": {"tile": (32, 32)},
    "zstd tiles": {"tile": (32, 48), "compression": "zstd"},
    "described": {"description": "x" * 200_000, "metadata": None},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("apart", [False, True])
def test_a_file_is_read_as_on_a_disk(web: Web, kind: str, apart: bool) -> None:
    options, rng = dict(KINDS[kind]), np.random.default_rng(1)
    planes = rng.integers(0, 4000, (12, 96, 112), "uint16")
    path = web.folder / "cell_t0.tif"
    if apart and not {"imagej", "ome"} & options.keys():
        with tifffile.TiffWriter(
            path, bigtiff=options.pop("bigtiff", False), byteorder=options.pop("byteorder", None)
        ) as file:
            for k, plane in enumerate(planes):
                more = {**options, "metadata": None}
                if k:
                    more.pop("description", None)
                file.write(plane, contiguous=False, **more)
    else:
        tifffile.imwrite(path, planes, photometric="minisblack", **options)
    (url,) = web.urls()
    layout = tiff.probe(path)
    assert tiff.probe(url) == layout
    assert tiff.metadata(url) == tiff.metadata(path)
    everything = slice(None)
    for selection in (
        (everything,) * 3,
        (5, everything, everything),
        (everything, 40, everything),
        (everything, everything, slice(100, 3, -7)),
        (np.array([11, 0, 3]), slice(20, 60, 3), np.array([5, 4])),
    ):
        np.testing.assert_array_equal(
            tiff.read(url, layout, selection), tiff.read(path, layout, selection)
        )
    np.testing.assert_array_equal(tiff.read(url, layout, (everything,) * 3), planes)
    for index, plane in tiff.recheck(url, layout, sample=3):
        np.testing.assert_array_equal(plane, planes[index])


def test_compressed_files_of_one_length_are_not_confused(web: Web) -> None:
    """Two files that begin, end and are as long as each other, with other pages between."""
    rng = np.random.default_rng(2)
    noise = rng.integers(0, 60000, (2, *PLANE), "uint16")
    noise[1, 20:] = 0  # is compressed to less
    pages = [noise[0], noise[0], noise[1], noise[0], noise[1], noise[0]]
    for t, order in enumerate(([0, 1, 2, 3, 4, 5], [0, 1, 3, 2, 4, 5])):
        with tifffile.TiffWriter(web.folder / f"cell_t{t}.tif") as file:
            for k in order:
                file.write(pages[k], contiguous=False, metadata=None, compression="zlib")
    first, second = (path.stat().st_size for path in sorted(web.folder.glob("*.tif")))
    assert first == second
    ds = opened(web.urls())
    np.testing.assert_array_equal(ds.image[0], pages)
    np.testing.assert_array_equal(ds.image[1], [pages[k] for k in (0, 1, 3, 2, 4, 5)])


def test_damaged_files_are_refused_as_on_a_disk(web: Web) -> None:
    whole = write_stack(web.folder / "cell_t0.tif", 0, 9).read_bytes()
    rng = random.Random(3)
    path = web.folder / "cell_t0.tif"
    for _ in range(60):
        data = bytearray(whole)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.randrange(4)):
            if data:
                data[rng.randrange(min(len(data), 400))] = rng.randrange(256)
        path.write_bytes(data)
        sizes(web.urls())  # as whatever opens a source asks
        found = []
        for place in (str(path), web.urls()[0]):
            try:
                layout = tiff.probe(place)
                found.append((str(layout), tiff.read(place, layout, (slice(None),) * 3).tobytes()))
            except (OSError, ValueError, MemoryError) as error:
                found.append((type(error).__name__, str(error).replace(place, "")))
        assert found[0] == found[1]


# --- what goes wrong on the way -------------------------------------------------------------


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_are_got_over(bucket: Bucket, tmp_path: Path, kind: str) -> None:
    for t in range(4):
        write_stack(tmp_path / f"raw/cell_t{t}.tif", t, 12)
    url = bucket.put(tmp_path / "raw")
    rng, share = random.Random(4), 0.06 if kind == "silent" else 0.2
    bucket.proxy.fault = lambda request: kind if rng.random() < share else None
    options = {**bucket.options, "retry_config": {**SOON["retry_config"], "max_retries": 12}}
    ds = opened(url, storage_options=options)
    with dask.config.set(scheduler="threads"):
        found = ds.image.values
    np.testing.assert_array_equal(found, opened(tmp_path / "raw").image)
    assert bucket.proxy.given[kind]


@pytest.mark.parametrize("kind", FAULTS[:4])
def test_what_stays_wrong_is_an_error_that_names_the_object(
    bucket: Bucket, tmp_path: Path, kind: str
) -> None:
    for t in range(3):
        write_stack(tmp_path / f"raw/cell_t{t}.tif", t, 12)
    url = bucket.put(tmp_path / "raw")
    ds = opened(url, storage_options=bucket.options)
    bucket.proxy.fault = lambda request: kind if "cell_t2" in request.path else None
    np.testing.assert_array_equal(ds.image.isel(t=1, z=3)[1], value(1, 3))
    with pytest.raises(OSError, match=rf"{url}/cell_t2.tif cannot be read"):
        ds.image.isel(t=2, z=3).load()
    with pytest.raises(OSError, match=rf"{url}/cell_t2.tif cannot be read"):
        ds.image.isel(z=3).load()
    bucket.proxy.fault = lambda request: None
    np.testing.assert_array_equal(ds.image.isel(t=2, z=3)[1], value(2, 3))


def test_what_tifffile_could_not_read_is_not_passed_over(bucket: Bucket, tmp_path: Path) -> None:
    """A description that does not come would make other axes of the pages."""
    planes = np.zeros((6, 8, 8), "uint16")
    labels = ["y" * 40_000] * 6
    metadata = {"axes": "TYX", "Labels": labels}
    (tmp_path / "raw").mkdir()
    tifffile.imwrite(tmp_path / "raw/cell_t0.tif", planes, imagej=True, metadata=metadata)
    url = bucket.put(tmp_path / "raw")
    number = [0]

    def from_the_third(request: Any) -> str | None:
        number[0] += 1
        return "500" if number[0] > 2 else None

    bucket.proxy.fault = from_the_third
    with pytest.raises(OSError, match=r"cell_t0.tif cannot be read"):
        opened(url, storage_options=bucket.options)


def test_an_object_that_changes_while_it_is_read(web: Web) -> None:
    path = write_stack(web.folder / "cell_t0.tif", 0, 30)
    ds = opened(web.urls())
    assert ds.image.isel(z=3)[1, 0] == value(0, 3)
    # Between two reads: read anew, as on a disk.
    write_stack(path, 5, 30)
    assert ds.image.isel(z=3)[1, 0] == value(5, 3)
    assert any(request.if_match for request in web.proxy.requests)
    # A file that one request reads completely, too.
    small = write_stack(web.folder / "small_t0.tif", 0, 1)
    assert small.stat().st_size < 1 << 16
    ds = opened(web.urls()[1:], pattern="small_t{t:d}.tif")
    assert ds.image[..., 1, 0] == value(0, 0)
    write_stack(small, 5, 1)
    assert ds.image[..., 1, 0] == value(5, 0)
    small.unlink()
    ds = opened(web.urls())
    # Within one: refused.
    write_stack(path, 6, 30)
    count = [0]

    def change(request: Any) -> None:
        count[0] += 1
        if count[0] > 5:
            write_stack(path, count[0], 30)

    web.proxy.fault = change
    with pytest.raises(OSError, match=r"cell_t0.tif changed while it was read: open the source"):
        ds.image.load()


def test_a_server_that_tells_no_state(tmp_path: Path) -> None:
    write_stack(tmp_path / "cell_t0.tif", 1, 12)
    web = Web(tmp_path, etags=False)
    try:
        ds = opened(web.urls(), storage_options=SOON)
        np.testing.assert_array_equal(ds.image.isel(z=5)[1], value(1, 5))
        assert not any(request.if_match for request in web.proxy.requests)
        rng = random.Random(5)
        web.proxy.fault = lambda request: "short" if rng.random() < 0.2 else None
        np.testing.assert_array_equal(ds.image, opened(tmp_path).image)
    finally:
        web.close()


def test_a_server_without_ranges_is_refused(tmp_path: Path) -> None:
    write_stack(tmp_path / "cell_t0.tif", 1, 12)
    web = Web(tmp_path, ranges=False)
    try:
        with pytest.raises(OSError, match=r"cell_t0.tif cannot be read"):
            opened(web.urls(), storage_options=SOON)
    finally:
        web.close()


# --- what is done with it -------------------------------------------------------------------


def test_other_processes_reach_the_same_place(bucket: Bucket, tmp_path: Path) -> None:
    for t in range(4):
        write_stack(tmp_path / f"raw/cell_t{t}.tif", t, 5)
    url = bucket.put(tmp_path / "raw")
    ds = opened(url, storage_options=bucket.options)
    code = (
        "import pickle, sys; ds = pickle.load(sys.stdin.buffer);"
        "print(ds.image.isel(z=3, y=1, x=0).values.tolist(), ds.tiffstack.report().matched)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(ds), capture_output=True, check=True
    )
    assert run.stdout.decode().split() == f"{[value(t, 3) for t in range(4)]} 4".split()


def test_no_secret_is_shown(bucket: Bucket, tmp_path: Path) -> None:
    write(tmp_path / "raw/cell_t0.tif", 0)
    write(tmp_path / "raw/cell_t1.tif", 1)
    url = bucket.put(tmp_path / "raw")
    ds = opened(url, storage_options={**bucket.options, "secret": "hush"})
    assert "storage_options={...}" in str(ds.tiffstack.report())
    shown = [repr(ds), str(ds.tiffstack.report()), repr(Access({"secret": "hush"}))]
    shown += [repr({**ds.attrs, **ds.image.attrs, **ds.encoding, **ds.image.encoding})]
    assert not any("hush" in text for text in shown)


def test_a_source_in_a_bucket_is_converted_and_verified(bucket: Bucket, tmp_path: Path) -> None:
    for t in range(4):
        write_stack(tmp_path / f"raw/cell_t{t}.tif", t, 6)
    url = bucket.put(tmp_path / "raw")
    ds = opened(url, storage_options=bucket.options)
    store = tmp_path / "out.zarr"
    assert ds.tiffstack.to_ome_zarr(store).files == 4
    assert ds.tiffstack.verify(store).ok
    found = xr.open_datatree(store, engine="zarr")["0"].image
    np.testing.assert_array_equal(found, opened(tmp_path / "raw").image)
    write_stack(tmp_path / "raw/cell_t2.tif", 7, 6)
    bucket.put(tmp_path / "raw")
    assert not ds.tiffstack.verify(store).ok
    summary = ds.tiffstack.to_ome_zarr(store)
    assert summary.written >= 1
    assert ds.tiffstack.verify(store).ok


def test_nothing_is_written_into_a_source(bucket: Bucket, tmp_path: Path) -> None:
    write(tmp_path / "raw/cell_t0.tif", 0)
    write(tmp_path / "raw/cell_t1.tif", 1)
    url = bucket.put(tmp_path / "raw")
    ds = opened(url, storage_options=bucket.options)
    for store in (url, f"{url}/out.zarr"):
        with pytest.raises(ValueError, match="is inside the source"):
            ds.tiffstack.to_ome_zarr(store)
    with pytest.raises(ValueError, match="holds the source"):
        ds.tiffstack.to_ome_zarr(f"s3://{bucket.name}")


def test_a_bucket_that_is_still_being_written(bucket: Bucket, tmp_path: Path) -> None:
    from xarray_tiffstack.watch import follow

    for t in range(5):
        write_stack(tmp_path / f"raw/cell_time{t}.tif", t, 3)

    def fill() -> None:
        for t in range(5):
            path = tmp_path / f"raw/cell_time{t}.tif"
            obstore.put(bucket.store, f"raw/{path.name}", path.read_bytes())
            time.sleep(0.3)

    writer = threading.Thread(target=fill)
    writer.start()
    summary = follow(
        f"s3://{bucket.name}/raw",
        tmp_path / "out.zarr",
        pattern="cell_time{time:d}.tif",
        expected=5,
        poll=0.1,
        storage_options=bucket.options,
    )
    writer.join()
    assert summary.files == 5
    found = xr.open_datatree(tmp_path / "out.zarr", engine="zarr")["0"].image
    assert found.isel(z=2, y=1, x=1).values.tolist() == [value(t, 2) for t in range(5)]


def test_the_command(bucket: Bucket, tmp_path: Path) -> None:
    for t in range(3):
        write(tmp_path / f"raw/cell_t{t}.tif", t)
    url = bucket.put(tmp_path / "raw")
    options = f"key=a,secret=b,endpoint_url={bucket.proxy.url}"
    common = ["--pattern", PATTERN, "--storage-options", options]

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "xarray_tiffstack", *words, *common]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "3 files" in run("info", url)
    run("preview", url, str(tmp_path / "page.html"))
    assert "cell_t1.tif" in (tmp_path / "page.html").read_text()
    run("convert", url, str(tmp_path / "out.zarr"), "--quiet")
    assert "verified" in run("verify", url, str(tmp_path / "out.zarr"), "--quiet")


def test_without_obstore(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['obstore'] = None; import xarray as xr\n"
        "try: xr.open_dataset('s3://bucket/raw/', engine='tiffstack')\n"
        "except ImportError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "xarray-tiffstack[remote]"' in run.stdout


@pytest.mark.parametrize(
    ("url", "options", "has"),
    [
        ("s3://b/a", {"anon": True, "client_kwargs": {"region_name": "eu-west-1"}}, "region"),
        ("gs://b/a", {"token": "anon"}, "skip_signature"),
        ("az://b/a", {"account_name": "me", "sas_token": "sv=1&sig=x"}, "account_name"),
        ("abfs://b@me.dfs.core.windows.net/a", {"anon": True}, "account_name"),
        ("az://b/a", {"connection_string": "AccountName=me;AccountKey=aGk="}, "account_key"),
    ],
)
def test_options_as_others_spell_them(url: str, options: dict[str, Any], has: str) -> None:
    store, key = Access(options).store(url)
    assert key == "a"
    assert has in store.config


def test_files_of_a_bucket_are_written_anew(bucket: Bucket, tmp_path: Path) -> None:
    write(tmp_path / "raw/cell_t0.tif", 0)
    ds = opened(bucket.put(tmp_path / "raw"), storage_options=bucket.options)
    found = ds.tiffstack.to_tiff(tmp_path / "new")
    assert found.written == 1
    (new,) = (tmp_path / "new").iterdir()
    np.testing.assert_array_equal(tifffile.imread(new), pixels(0))

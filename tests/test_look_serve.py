"""A folder served as OME-Zarr: other people's readers find every pixel, and nothing else."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from conftest import pixels, reference_name, write

from xarray_tiffstack.look.serve import Server
from xarray_tiffstack.look.served import Served

if TYPE_CHECKING:
    from collections.abc import Iterator

# zarr says this of every store of format 3 that is consolidated.
pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")


def opened(source: object, **options: object) -> xr.Dataset:
    return xr.open_dataset(source, engine="tiffstack", **options)  # type: ignore[arg-type]


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Folder of 2 channels x 2 stacks with planes that have three levels; one file is missing."""
    rng = np.random.default_rng(0)
    (tmp_path / "raw").mkdir()
    for ch, stack in ((0, 0), (0, 1), (1, 0)):
        volume = rng.integers(0, 4000, (3, 1101, 602), "uint16")
        path = tmp_path / "raw" / reference_name(ch, stack)
        tifffile.imwrite(path, volume, photometric="minisblack")
    return tmp_path / "raw"


@pytest.fixture
def server(large: Path) -> Iterator[Server]:
    with Server(opened(large, voxel_size=(0.4, 0.1, 0.1)), "ex6.zarr") as served:
        yield served


def averaged(plane: np.ndarray) -> np.ndarray:
    """Mean of 2 x 2 pixels, halves rounded up."""
    height, width = (n // 2 for n in plane.shape[-2:])
    even = plane[..., : 2 * height, : 2 * width].astype(np.uint32)
    blocks = even.reshape(*plane.shape[:-2], height, 2, width, 2)
    return ((blocks.sum(axis=(-3, -1)) + 2) // 4).astype(plane.dtype)


def expected_levels(folder: Path) -> list[np.ndarray]:
    """What each level holds, axes stack, channel, z, y, x, straight from the files."""
    full = np.zeros((2, 2, 3, 1101, 602), "uint16")
    for ch, stack in np.ndindex(2, 2):
        path = folder / reference_name(ch, stack)
        if path.exists():
            full[stack, ch] = tifffile.imread(path)
    levels = [full]
    while max(levels[-1].shape[-2:]) > 256:
        levels.append(averaged(levels[-1]))
    return levels


def test_zarr_reads_every_pixel(server: Server, large: Path) -> None:
    root = zarr.open_group(server.url, mode="r")
    described: Any = root.attrs["ome"]
    (multiscale,) = described["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == ["stack", "channel", "z", "y", "x"]
    levels = expected_levels(large)
    assert len(multiscale["datasets"]) == len(levels) == 4
    for dataset, expected in zip(multiscale["datasets"], levels, strict=True):
        array: Any = root[dataset["path"]]
        np.testing.assert_array_equal(array[...], expected)
        scale = dataset["coordinateTransformations"][0]["scale"]
        assert scale[2] == pytest.approx(0.4)
        assert scale[-1] == pytest.approx(0.1 * round(602 / expected.shape[-1]))
    window = described["omero"]["channels"][0]["window"]
    assert 0 <= window["start"] < window["end"] < 4000


def test_tensorstore_reads_every_pixel(server: Server, large: Path) -> None:
    ts = pytest.importorskip("tensorstore")
    for level, expected in enumerate(expected_levels(large)):
        spec = {"driver": "zarr3", "kvstore": f"{server.url}/{level}/image/"}
        found = ts.open(spec, read=True).result().read().result()
        np.testing.assert_array_equal(found, expected)


def test_xarray_reads_every_label(server: Server, large: Path) -> None:
    ds = opened(large, voxel_size=(0.4, 0.1, 0.1))
    with xr.open_zarr(server.url, group="0") as back:
        again = back.transpose(*ds.image.dims, ...).load()
        for name in ds.coords:
            np.testing.assert_array_equal(again[name].values, ds[name].values)
            assert again[name].attrs == ds[name].attrs
        np.testing.assert_array_equal(again.image.values, ds.image.values)


@pytest.mark.filterwarnings("ignore")  # others' packages
def test_ngff_zarr_reads_it(server: Server, large: Path) -> None:
    ngff_zarr = pytest.importorskip("ngff_zarr")
    levels = ngff_zarr.from_ngff_zarr(server.url).images
    full = levels[0]
    assert full.dims == ("stack", "channel", "z", "y", "x")
    assert [full.scale[d] for d in "zyx"] == pytest.approx([0.4, 0.1, 0.1])
    assert full.axes_units["z"] == "micrometer"
    for level, expected in zip(levels, expected_levels(large), strict=True):
        np.testing.assert_array_equal(np.asarray(level.data[1, 0, 2]), expected[1, 0, 2])


def test_validator_passes_it(server: Server) -> None:
    yaozarrs = pytest.importorskip("yaozarrs")
    yaozarrs.validate_zarr_store(server.url)


def test_positions_and_plates(tmp_path: Path) -> None:
    yaozarrs = pytest.importorskip("yaozarrs")
    for i, (well, field, t) in enumerate(np.ndindex(2, 2, 3)):
        write(tmp_path / f"A0{well + 1}_f{field}_t{t}.tif", i, shape=(6, 8))
    ds = opened(tmp_path, pattern="{well}_f{field:d}_t{t:d}.tif")
    with Server(ds) as plate:
        yaozarrs.validate_zarr_store(plate.url)
        array: Any = zarr.open_array(f"{plate.url}/A/02/1/0/image", mode="r")
        np.testing.assert_array_equal(
            array[:, :, :], np.stack([pixels(9 + t, (6, 8)) for t in range(3)])
        )
    with Server(ds.isel(well=0)) as positions:
        yaozarrs.validate_zarr_store(positions.url)
        array = zarr.open_array(f"{positions.url}/1/0/image", mode="r")
        np.testing.assert_array_equal(array[2], pixels(5, (6, 8)))


def fetch(url: str, method: str = "GET", **headers: str) -> tuple[int, bytes, Any]:
    try:
        with urlopen(Request(url, method=method, headers=headers)) as answer:
            return answer.status, answer.read(), answer.headers
    except HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def test_tags_follow_the_file(server: Server, large: Path) -> None:
    chunk = f"{server.url}/0/image/c/0/0/0/0/0"
    status, body, headers = fetch(chunk)
    assert status == 200
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert fetch(chunk, "HEAD")[:2] == (200, b"")
    assert int(fetch(chunk, "HEAD")[2]["Content-Length"]) == len(body)
    tag = {"If-None-Match": headers["ETag"]}
    assert fetch(chunk, **tag)[:2] == (304, b"")
    path = large / reference_name(0, 0)
    tifffile.imwrite(path, tifffile.imread(path) + 1, photometric="minisblack")
    status, changed, _ = fetch(chunk, **tag)
    assert status == 200
    np.testing.assert_array_equal(np.frombuffer(changed, "<u2"), np.frombuffer(body, "<u2") + 1)


def test_a_broken_file_is_an_error_not_zeros(server: Server, large: Path) -> None:
    path = large / reference_name(1, 0)
    path.write_bytes(path.read_bytes()[:1000])
    status, said, _ = fetch(f"{server.url}/0/image/c/0/1/0/0/0")
    assert status == 500
    assert path.name in said.decode()
    assert fetch(f"{server.url}/0/image/c/1/1/0/0/0")[0] == 404  # of no file: filled by readers
    assert fetch(f"{server.url}/0/image/c/0/0/0/0/0")[0] == 200


def chunk_keys(served: Served, level: int, at: dict[str, int]) -> list[str]:
    """Keys of the chunks of a level that meet some positions."""
    found = served.pyramid.levels[level]
    ranges = [
        [at[d] // found.factor.get(d, 1) // n] if d in at else range(-(-found.shape[d] // n))
        for d, n in found.chunk.items()
    ]
    return [f"{level}/image/c/{'/'.join(map(str, index))}" for index in product(*ranges)]


def bytes_read(served: Served, keys: list[str]) -> int:
    """Bytes that are read for some chunks, asked for at the same time as by a browser."""

    def rchar() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    served.get("0/image/zarr.json")
    asking = -rchar() + rchar()
    before = rchar()
    with ThreadPoolExecutor(6) as pool:
        assert None not in list(pool.map(served.get, keys))
    return rchar() - before - asking


counted = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts bytes")
HEADERS = 2**15  # bytes of the headers of a file, at most


@counted
def test_a_plane_is_read_once(large: Path) -> None:
    served = Served(opened(large))
    keys = [key for level in range(4) for key in chunk_keys(served, level, {"stack": 0, "z": 1})]
    keys = [key for key in keys if key.split("/")[4] == "0"]  # of one channel
    assert len(keys) == 3 * 2 + 2 + 1 + 1
    plane = 1101 * 602 * 2
    assert plane <= bytes_read(served, keys) <= plane + HEADERS
    assert bytes_read(served, keys) == 0


@counted
def test_a_volume_is_read_once_for_three_sides(tmp_path: Path) -> None:
    shape = (70, 1024, 300)
    volume = np.random.default_rng(0).integers(0, 4000, shape, "uint16")
    tifffile.imwrite(tmp_path / reference_name(0, 0), volume, photometric="minisblack")
    served = Served(opened(tmp_path), "sides")
    middle = [{"z": 35}, {"y": 512}, {"x": 150}]
    keys = [key for at in middle for level in (2, 1) for key in chunk_keys(served, level, at)]
    assert volume.nbytes <= bytes_read(served, keys) <= volume.nbytes + 4 * HEADERS
    assert bytes_read(served, keys) == 0


@counted
def test_a_coarse_volume_needs_a_third_of_its_planes(tmp_path: Path) -> None:
    shape = (201, 300, 260)
    volume = np.random.default_rng(0).integers(0, 4000, shape, "uint16")
    tifffile.imwrite(tmp_path / reference_name(0, 0), volume, photometric="minisblack")
    ds = opened(tmp_path, voxel_size=(0.2, 0.1, 0.1))
    served = Served(ds, "volume")
    assert [level.factor["z"] for level in served.pyramid.levels] == [1, 1, 3, 3]
    keys = chunk_keys(served, 3, {})
    third = volume.nbytes // 3
    assert third <= bytes_read(served, keys) <= third + 10 * HEADERS
    expected = averaged(averaged(averaged(volume[1::3])))
    with Server(ds, seen="volume") as server:
        array: Any = zarr.open_array(f"{server.url}/3/image", mode="r")
        np.testing.assert_array_equal(np.squeeze(array[...]), expected)
        scales = zarr.open_group(server.url, mode="r").attrs["ome"]["multiscales"][0]["datasets"]
        scale, shift = (t[t["type"]] for t in scales[3]["coordinateTransformations"])
        np.testing.assert_allclose(scale[-3:], (0.6, 0.8, 0.8))
        np.testing.assert_allclose(shift[-3:], (0.2, 0.35, 0.35))  # of the first three the second


def test_the_cache_is_bounded(large: Path) -> None:
    plane = 1101 * 602 * 2
    served = Served(opened(large), cache=3 * plane)
    for z in range(3):
        assert served.get(f"0/image/c/0/0/{z}/0/0") is not None
    assert 2 * plane < served.cache.held < 3 * plane  # with the coarser levels
    assert len(served.cache.arrays) == 2


@pytest.mark.parametrize(
    "path",
    ["/", "/ex6.zarr/../../../etc/passwd", "/ex6.zarr/%2e%2e/%2e%2e/etc/passwd", "/etc/passwd",
     "/ex6.zarr//etc/passwd", "/ex6.zarr/0/image/c/0/0/0/5/0", "/ex6.zarr/0/image/c/0/0",
     "/ex6.zarr/9/image/c/0/0/0/0/0", "/ex6.zarr/0/image/c/-1/0/0/0/0", "/ex6.zarr/" + "a" * 5000],
)  # fmt: skip
def test_no_path_leads_elsewhere(server: Server, path: str) -> None:
    connection = HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 404
    assert answer.read() == b"there is nothing here\n"
    connection.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_refused(server: Server, method: str) -> None:
    assert fetch(f"{server.url}/zarr.json", method)[0] == 501


def test_elsewhere_than_loopback_there_is_a_secret(large: Path) -> None:
    ds = opened(large)
    with Server(ds, host="0.0.0.0") as one, Server(ds, host="0.0.0.0") as other:
        assert one.prefix != other.prefix
        assert len(one.prefix) > 20
        local = f"http://127.0.0.1:{one.port}"
        path = urlsplit(one.url).path
        assert fetch(f"{local}{path}/zarr.json")[0] == 200
        assert fetch(f"{local}/raw.zarr/zarr.json")[0] == 404
        assert fetch(f"{local}{other.prefix}raw.zarr/zarr.json")[0] == 404
    with Server(ds) as loopback:
        assert loopback.prefix == "/"
        address = socket.gethostbyname(socket.gethostname())
        if not address.startswith("127."):
            with pytest.raises(OSError, match=r"refused|timed out"):
                socket.create_connection((address, loopback.port), timeout=1)


def test_many_chunks_over_one_connection(server: Server) -> None:
    connection = HTTPConnection("127.0.0.1", server.port)
    for key in ("zarr.json", "0/image/c/0/0/0/0/0", "nothing", "1/image/c/0/0/0/1/0"):
        connection.request("GET", f"/ex6.zarr/{key}")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == (404 if key == "nothing" else 200)
        assert connection.sock is not None
    connection.close()


@contextmanager
def ended(running: subprocess.Popen[str]) -> Iterator[None]:
    """End a process, whatever happens."""
    try:
        yield
    finally:
        running.kill()


@pytest.mark.usefixtures("heard")
def test_from_the_shell(large: Path) -> None:
    command = [sys.executable, "-m", "xarray_tiffstack", "serve", str(large)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running,
        ended(running),
    ):
        assert running.stdout is not None
        url = running.stdout.readline().split()[0]
        ways = [running.stdout.readline() for _ in range(6)]
        assert fetch(f"{url}/zarr.json")[0] == 200
        assert url.endswith("/raw.zarr")
        assert f'xarray.open_zarr("{url}", group="0")' in ways[4]
        assert ways[5].split()[2] == "ssh"
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) == 0

"""Pixels on a device, with a stand-in for cupy that shows what an upload gets wrong."""

from __future__ import annotations

import contextlib
import json
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import pytest
import standin_cupy
import tifffile
import xarray as xr
from conftest import SHAPE, pixels, reference_name, write, write_acquisition
from xarray.namedarray import pycompat

from xarray_tiffstack import accessor
from xarray_tiffstack.array import device as _device
from xarray_tiffstack.array.mosaic import tiles_of
from xarray_tiffstack.array.reads import _cuts, source_of
from xarray_tiffstack.array.variable import FileVariable

if TYPE_CHECKING:
    from collections.abc import Iterator

PLANE = SHAPE[1] * SHAPE[2] * 2  # bytes


@pytest.fixture(autouse=True)
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Stand in for cupy, in all that looks for it, and cut pieces of two planes."""
    bound = {name for name in sys.modules if _is_bound(name)}
    for name in bound:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(standin_cupy, "__spec__", ModuleSpec("cupy", None))
    monkeypatch.setitem(sys.modules, "cupy", standin_cupy)
    for cls in (xr.DataArray, xr.Dataset):
        monkeypatch.setattr(cls, "as_cupy", accessor._DOORS["as_cupy"], raising=False)
    monkeypatch.setattr(pycompat, "_cached_duck_array_modules", {})
    monkeypatch.setattr(_device, "PIECE", 2 * PLANE)
    monkeypatch.setattr(_device, "LANES", 2)
    monkeypatch.setattr(_device, "_turns", threading.BoundedSemaphore(2))
    monkeypatch.setattr(_device, "_idle", [])
    standin_cupy.pinned.clear()
    standin_cupy.copies.clear()
    standin_cupy.failures.clear()
    yield standin_cupy
    for name in [name for name in sys.modules if _is_bound(name)]:
        del sys.modules[name]
    lanes_back = _device._idle
    assert len(lanes_back) <= 2
    for _ in range(2):
        assert _device._turns.acquire(timeout=0), "a lane was not given back"


def _is_bound(name: str) -> bool:
    return (
        name.split(".")[0] in ("cupy", "cupy_xarray")
        or name == "xarray_tiffstack.array.cupy_accessor"
    )


def pair(folder: Path, **keywords: Any) -> tuple[xr.Dataset, xr.Dataset]:
    """Open on the host and on the device."""
    host, card = (
        xr.open_dataset(folder, engine="tiffstack", device=device, **keywords)
        for device in (None, "cuda")
    )
    return host, card


def on_host(data: xr.DataArray) -> xr.DataArray:
    """Compute on the device, and copy the outcome."""
    computed = data.compute()
    assert type(computed.data) is standin_cupy.ndarray
    return computed.copy(data=computed.data.get())


SELECTIONS = {
    "all": {},
    "a channel and a plane": {"channel": 1, "z": 2},
    "planes backwards": {"z": slice(None, None, -1)},
    "some of everything": {"channel": [2, 0], "stack": slice(1, 4), "z": [3, 0, 1], "y": 2},
    "rows and columns": {"y": slice(1, 6, 2), "x": [7, 1]},
    "nothing": {"z": slice(2, 2)},
    "one pixel": {"channel": 0, "stack": 4, "z": 3, "y": 2, "x": 1},
    "one line across": {"y": 3, "z": 0},
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_selections_equal_those_on_the_host(shared_acquisition: Path, name: str) -> None:
    host, card = pair(shared_acquisition)
    expected, found = (ds.image.isel(SELECTIONS[name]) for ds in (host, card))
    assert isinstance(found.data._meta, standin_cupy.ndarray)
    assert found.dtype == expected.dtype
    assert found.chunks == expected.chunks
    assert len(found.data.dask.layers) == 1
    xr.testing.assert_identical(on_host(found), expected.compute())


def test_transposed_and_cut(shared_acquisition: Path) -> None:
    host, card = pair(shared_acquisition)

    def of(image: xr.DataArray) -> xr.DataArray:
        return image.transpose("x", "z", ...).chunk(stack=2, x=5).isel(z=slice(None, None, 2))

    assert source_of(of(card.image).data).device == "cuda"
    xr.testing.assert_identical(on_host(of(card.image)), of(host.image).compute())


@pytest.mark.parametrize("chunks", [{}, {"z": 3}, "auto", {"stack": 2, "y": 4}])
def test_chunks_of_xarray(shared_acquisition: Path, chunks: Any) -> None:
    host, card = pair(shared_acquisition, chunks=chunks)
    assert card.image.chunks == host.image.chunks
    xr.testing.assert_identical(on_host(card.image), host.image.compute())


def test_points(shared_acquisition: Path) -> None:
    host, card = pair(shared_acquisition)
    at = {"z": xr.DataArray([3, 0, 1], dims="p"), "y": xr.DataArray([1, 5, 2], dims="p")}
    found = card.image.isel(at).compute()
    np.testing.assert_array_equal(found.data.get(), host.image.isel(at).values)


@pytest.mark.parametrize(
    "storage",
    [{"compression": "lzw"}, {"compression": "zstd", "tile": (16, 16)}, {"byteorder": ">"}],
    ids=str,
)
def test_decoded_on_the_host(tmp_path: Path, storage: dict[str, Any]) -> None:
    host, card = pair(write_acquisition(tmp_path / "raw", **storage))
    xr.testing.assert_identical(on_host(card.image), host.image.compute())


def test_holes_and_short_files(acquisition: Path) -> None:
    (acquisition / reference_name(1, 2)).unlink()
    tifffile.imwrite(acquisition / reference_name(2, 0), pixels(10)[:3], photometric="minisblack")
    host, card = pair(acquisition, validate="headers", fill_value=7)
    xr.testing.assert_identical(on_host(card.image), host.image.compute())
    assert (on_host(card.image.sel(channel=560, stack=2)) == 7).all()
    assert isinstance(card.present.data, np.ndarray)
    xr.testing.assert_identical(card.present, host.present)


def test_planes_of_an_image_each(tmp_path: Path) -> None:
    for t in range(30):
        write(tmp_path / f"cell_t{t:02d}.tif", t, SHAPE[1:])
    host, card = pair(tmp_path, pattern="cell_t{t:d}.tif")
    assert card.image.data.npartitions == 1
    xr.testing.assert_identical(on_host(card.image), host.image.compute())


def test_planes_larger_than_a_buffer(shared_acquisition: Path, cupy: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(_device, "PIECE", PLANE // 3)
    host, card = pair(shared_acquisition)
    xr.testing.assert_identical(on_host(card.image), host.image.compute())
    assert set(cupy.copies) == {PLANE}  # not one was cut
    assert set(cupy.pinned) == {PLANE}


def test_mosaic(tmp_path: Path) -> None:
    for i, (row, col) in enumerate(np.ndindex(2, 3)):
        write(tmp_path / f"slide_r{row}_c{col}.tif", i)
    host, card = pair(
        tmp_path, pattern="slide_r{row:d}_c{col:d}.tif", mosaic=True, overlap={"x": 2}
    )
    assert tiles_of(card.image.data).device == "cuda"
    for select in (
        {},
        {"z": 2},
        {"y": slice(2, 9), "x": [1, 15]},
        {"x": 3, "y": 4},
        {"z": slice(None, None, -1), "x": slice(2, 17)},
    ):
        found, expected = card.image.isel(select), host.image.isel(select)
        assert isinstance(found.data._meta, standin_cupy.ndarray)
        xr.testing.assert_identical(on_host(found), expected.compute())


def test_another_card(shared_acquisition: Path, cupy: Any) -> None:
    ds = xr.open_dataset(shared_acquisition, engine="tiffstack", device="cuda:1")
    assert ds.image.data._meta.device.id == 1
    block = ds.image.sel(channel=642, stack=4).data.to_delayed().item()
    found = block.compute()
    assert found.device.id == 1
    np.testing.assert_array_equal(found.get(), pixels(14))
    with cupy.cuda.Device(1), dask.config.set(scheduler="synchronous"):  # dask copies in a thread
        assert ds.image.sel(channel=642, stack=4).compute().data.device.id == 1
    first = xr.open_dataset(shared_acquisition, engine="tiffstack", device="cuda:0").image[0, 1]
    assert first.data.to_delayed().item().compute().device.id == 0
    np.testing.assert_array_equal(ds.image[0, 0].compute().data.get(), pixels(0))  # lanes go both


def test_devices_are_told_apart(shared_acquisition: Path) -> None:
    ds = xr.open_dataset(shared_acquisition, engine="tiffstack")
    names = {ds.image.variable.on(device).data.name for device in (None, "cuda", "cuda:1")}
    assert len(names) == 3
    assert ds.image.variable.on("cuda").on(None).data.name == ds.image.data.name


def test_computing_on_the_device(shared_acquisition: Path) -> None:
    host, card = pair(shared_acquisition)
    for compute in (
        lambda image: image.mean("stack"),
        lambda image: (image.astype("float32") - 100).isel(z=1).max(("y", "x")),
        lambda image: image.sel(channel=560).isel(z=slice(0, 3)).sum(),
    ):
        found = compute(card.image)
        assert isinstance(found.data._meta, standin_cupy.ndarray)
        xr.testing.assert_allclose(on_host(found), compute(host.image).compute())


def test_overlapping_blocks(shared_acquisition: Path) -> None:
    host, card = pair(shared_acquisition)

    def smoothed(image: xr.DataArray) -> da.Array:
        def of(block: Any) -> Any:
            left, right = block[..., :-2], block[..., 2:]
            middle = block[..., 1:-1]
            smooth = (left + middle + right) // 3
            xp = standin_cupy if isinstance(block, standin_cupy.ndarray) else np
            return xp.concatenate([block[..., :1], smooth, block[..., -1:]], axis=-1)

        depth = dict(zip(range(5), (0, 0, 0, 0, 1), strict=True))
        return image.chunk(x=4).data.map_overlap(of, depth=depth, boundary="reflect")

    found = smoothed(card.image)
    assert isinstance(found._meta, standin_cupy.ndarray)
    np.testing.assert_array_equal(found.compute().get(), smoothed(host.image).compute())


# --- the buffers ----------------------------------------------------------------------------


def test_what_ran_before_is_not_overwritten(shared_acquisition: Path, cupy: Any) -> None:
    """Memory of an array that was deleted is still read by work that is queued."""
    ds = xr.open_dataset(shared_acquisition, engine="tiffstack", device="cuda")
    first, second = (ds.image.sel(channel=560, stack=i).data for i in (0, 1))
    with dask.config.set(scheduler="synchronous"):
        for _ in range(3):
            block = first.compute()
            sums = [block + i for i in range(5)]  # queued, each reads the block
            del block
            again = second.compute()  # in the same memory
            for i, each in enumerate(sums):
                np.testing.assert_array_equal(each.get(), pixels(5) + i)
            np.testing.assert_array_equal(again.get(), pixels(6))


def test_in_a_stream_of_the_callers(shared_acquisition: Path, cupy: Any) -> None:
    ds = xr.open_dataset(shared_acquisition, engine="tiffstack", device="cuda")
    block = ds.image.sel(channel=488, stack=2).data
    with cupy.cuda.Stream(non_blocking=True), dask.config.set(scheduler="synchronous"):
        doubled = block.compute() * 2
        np.testing.assert_array_equal(doubled.get(), pixels(2) * 2)
    # The block as it was read: what `compute` gives is dask's copy of it, made late by the stream
    # that is current then, and who goes on in another has to wait for that as for all of cupy.
    whole = block.to_delayed().item().compute(scheduler="synchronous")
    with cupy.cuda.Stream(non_blocking=True):  # one that waits for nothing
        np.testing.assert_array_equal((whole + 1).get(), pixels(2) + 1)


def test_many_threads_share_few_buffers(shared_acquisition: Path, cupy: Any) -> None:
    host, card = pair(shared_acquisition, chunks={"z": 3})
    with ThreadPoolExecutor(12) as pool, dask.config.set(pool=pool):
        found = card.image.compute()
    np.testing.assert_array_equal(found.data.get(), host.image.values)
    assert 2 <= len(cupy.pinned) <= 2 * _device.LANES
    assert set(cupy.pinned) == {2 * PLANE}


def test_no_growth_over_many_blocks(shared_acquisition: Path, cupy: Any) -> None:
    image = xr.open_dataset(shared_acquisition, engine="tiffstack", device="cuda").image
    threads, held = threading.active_count(), cupy.get_default_memory_pool().used_bytes()
    for _ in range(4):
        for cell in np.ndindex(3, 5):
            blocks = image[cell].chunk(z=3).data.to_delayed().ravel()
            dask.compute(*blocks, scheduler="synchronous")
    assert len(cupy.pinned) == 2
    assert cupy.get_default_memory_pool().used_bytes() == held
    assert threading.active_count() <= threads + 2  # the stream of one lane, the default stream


def test_a_file_that_breaks_off(acquisition: Path, cupy: Any) -> None:
    path = acquisition / reference_name(1, 2)
    image = xr.open_dataset(acquisition, engine="tiffstack", device="cuda").image
    image[1, 2].compute()  # its pages are known
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    for _ in range(5):
        with pytest.raises(OSError, match=path.name):
            image[1].compute(scheduler="synchronous")
    path.write_bytes(whole)
    np.testing.assert_array_equal(image[1, 2].compute().data.get(), pixels(7))
    assert len(cupy.pinned) <= 4


def test_no_copy_outlives_an_error(cupy: Any) -> None:
    def ones(host: np.ndarray) -> None:
        host[...] = 1

    def breaks_off(host: np.ndarray) -> None:
        raise OSError("cut short")

    dtype = np.dtype("uint16")
    _device.upload((4,), dtype, "cuda", [((4,), ones)])
    stream = _device._idle[0].streams[0]
    stream.put(lambda: time.sleep(0.1))
    with contextlib.suppress(OSError):
        _device.upload((8,), dtype, "cuda", [((4,), ones), ((4,), breaks_off)])
    twos = cupy.asarray(np.full(8, 2, dtype))  # in the memory of the array that came to nothing
    stream.synchronize()
    np.testing.assert_array_equal(twos.get(), np.full(8, 2))


def test_tasks_carry_no_more_than_the_name_of_the_device(shared_acquisition: Path) -> None:
    ds = xr.open_dataset(shared_acquisition, engine="tiffstack", device="cuda")
    plane = ds.image.sel(channel=560).isel(stack=3, z=2)
    (graph,) = dask.optimize(plane.data)
    (task,) = dict(graph.__dask_graph__()).values()
    packed = pickle.dumps(task, 5)
    assert len(packed) < 2000
    assert b"standin" not in packed
    np.testing.assert_array_equal(pickle.loads(packed)().get(), pixels(8)[2])
    again = pickle.loads(pickle.dumps(ds.image.sel(channel=560)))
    assert source_of(again.data).device == "cuda"
    np.testing.assert_array_equal(again.isel(stack=1).compute().data.get(), pixels(6))


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 4), (3, 1, 7), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("most", [1, 2, 5, 12, 1000])
def test_pieces_follow_each_other(shape: tuple[int, ...], most: int) -> None:
    whole = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    for axes in range(len(shape) + 1):
        item = int(np.prod(shape[axes:], dtype=int))
        pieces = [whole[key] for key in _cuts(shape, most, axes)]
        assert np.concatenate([[], *(piece.ravel() for piece in pieces)]).tolist() == [*whole.flat]
        assert all(0 < piece.size <= max(most, item) for piece in pieces)
        assert all(piece.flags.c_contiguous for piece in pieces)


# --- the accessor ---------------------------------------------------------------------------


def test_as_cupy_reads_files_to_the_card(shared_acquisition: Path, opened: list[str]) -> None:
    ds = xr.open_dataset(shared_acquisition, engine="tiffstack")
    opened.clear()
    on_card = ds.image.cupy.as_cupy()
    assert on_card.cupy.is_cupy
    assert not ds.image.cupy.is_cupy
    assert isinstance(on_card.variable, FileVariable)
    assert source_of(on_card.data).device == "cuda"
    xr.testing.assert_identical(on_card.coords.to_dataset(), ds.image.coords.to_dataset())
    assert on_card.attrs == ds.image.attrs
    assert on_card.name == "image"
    plane = on_card.sel(channel=560).isel(stack=1).isel(z=3)
    assert not opened
    found = plane.compute()
    assert len(opened) == 1
    assert found.cupy.is_cupy
    np.testing.assert_array_equal(found.data.get(), pixels(6)[3])
    back = plane.cupy.as_numpy()
    assert not back.cupy.is_cupy
    assert source_of(back.data).device is None
    xr.testing.assert_identical(back, ds.image.sel(channel=560).isel(stack=1).isel(z=3))
    np.testing.assert_array_equal(found.cupy.as_numpy().data, pixels(6)[3])


def test_as_cupy_of_a_dataset(shared_acquisition: Path) -> None:
    host, card = (
        xr.open_dataset(shared_acquisition, engine="tiffstack", device=device)
        for device in (None, "cuda")
    )
    there = host.cupy.as_cupy()
    assert there.cupy.is_cupy
    assert card.cupy.is_cupy
    assert not host.cupy.is_cupy
    for ds in (there, card):
        for name in ds.coords:
            assert not isinstance(ds[name].data, standin_cupy.ndarray)
            xr.testing.assert_identical(ds[name].variable, host[name].variable)
            assert type(ds[name].variable) is type(host[name].variable)
        back = ds.cupy.as_numpy()
        xr.testing.assert_identical(back.compute(), host.compute())
    assert there.image.encoding == host.image.encoding
    xr.testing.assert_identical(host.as_cupy().cupy.as_numpy().compute(), host.compute())


def test_as_cupy_of_what_was_computed(shared_acquisition: Path) -> None:
    image = xr.open_dataset(shared_acquisition, engine="tiffstack").image
    doubled = (image * 2).cupy.as_cupy()
    assert doubled.cupy.is_cupy
    np.testing.assert_array_equal(doubled[0, 1].compute().data.get(), 2 * pixels(1))
    back = doubled.cupy.as_numpy()
    assert type(back.data) is da.Array
    np.testing.assert_array_equal(back[0, 1], 2 * pixels(1))
    assert image[0, 1].load().cupy.as_cupy().data.sum().get() == pixels(1).sum()


def test_as_cupy_of_a_mosaic(tmp_path: Path) -> None:
    for row, col in np.ndindex(2, 2):
        write(tmp_path / f"slide_r{row}_c{col}.tif", 2 * row + col)
    image = xr.open_dataset(
        tmp_path, engine="tiffstack", pattern="slide_r{row:d}_c{col:d}.tif", mosaic=True
    ).image
    on_card = image.cupy.as_cupy()
    assert tiles_of(on_card.data).device == "cuda"
    found = on_card.isel(z=1).compute().data.get()
    np.testing.assert_array_equal(found, image.isel(z=1).values)
    assert tiles_of(on_card.cupy.as_numpy().data).device is None


# --- saving ---------------------------------------------------------------------------------


def test_to_zarr_says_what_to_do(shared_acquisition: Path, tmp_path: Path) -> None:
    host, card = pair(shared_acquisition)
    with pytest.raises(TypeError, match="Implicit conversion"):
        card.to_zarr(tmp_path / "refused.zarr", zarr_format=2)
    card.cupy.as_numpy().to_zarr(tmp_path / "files.zarr", zarr_format=2)
    xr.testing.assert_identical(xr.open_zarr(tmp_path / "files.zarr").compute(), host.compute())
    doubled = card.assign(image=card.image * 2)
    doubled.cupy.as_numpy().to_zarr(tmp_path / "computed.zarr", zarr_format=2)
    found = xr.open_zarr(tmp_path / "computed.zarr").image
    np.testing.assert_array_equal(found, 2 * host.image.values)


def test_to_ome_zarr(shared_acquisition: Path, tmp_path: Path, cupy: Any) -> None:
    host, card = pair(shared_acquisition)
    cupy.copies.clear()
    assert card.tiffstack.to_ome_zarr(tmp_path / "a.zarr", verify=True, progress=False).verified.ok
    assert not cupy.copies  # files are read on the host
    assert host.tiffstack.verify(tmp_path / "a.zarr", progress=False).ok
    assert card.tiffstack.verify(tmp_path / "a.zarr", progress=False).ok
    doubled = card.assign(image=card.image * 2)
    assert doubled.tiffstack.to_ome_zarr(tmp_path / "b.zarr", progress=False).blocks
    with xr.open_datatree(tmp_path / "b.zarr", engine="zarr") as tree:
        found = tree["0"].image.transpose(*host.image.dims)
        np.testing.assert_array_equal(found, 2 * host.image.values)
    loaded = card.compute()
    assert loaded.tiffstack.to_ome_zarr(tmp_path / "c.zarr", progress=False).blocks


# --- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", 0, "CUDA"])
def test_no_such_name(shared_acquisition: Path, device: Any) -> None:
    with pytest.raises(ValueError, match=r"device=.*'cuda'"):
        xr.open_dataset(shared_acquisition, engine="tiffstack", device=device)


def test_no_such_card(shared_acquisition: Path) -> None:
    with pytest.raises(RuntimeError, match=r"no 'cuda:2': this machine has 'cuda:0', 'cuda:1'"):
        xr.open_dataset(shared_acquisition, engine="tiffstack", device="cuda:2")


def test_no_driver(shared_acquisition: Path, cupy: Any) -> None:
    ds = xr.open_dataset(shared_acquisition, engine="tiffstack")
    with cupy.without_card():
        message = "needs an NVIDIA card and its driver.*InsufficientDriver"
        with pytest.raises(RuntimeError, match=message):
            xr.open_dataset(shared_acquisition, engine="tiffstack", device="cuda")
        for data in (ds, ds.image, ds.image * 2):
            assert not data.cupy.is_cupy
            with pytest.raises(RuntimeError, match=message):
                data.cupy.as_cupy()
        assert xr.open_dataset(shared_acquisition, engine="tiffstack", device="cpu").equals(ds)


def test_no_cupy(shared_acquisition: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"'cuda' needs cupy.*pip install cupy-cuda12x"):
        xr.open_dataset(shared_acquisition, engine="tiffstack", device="cuda")


def test_all_samples_of_a_tree(tmp_path: Path) -> None:
    for sample in "ab":
        for t in range(2):
            write(tmp_path / f"{sample}_t{t}.tif", t)
    tree = xr.open_datatree(
        tmp_path, engine="tiffstack", pattern="{sample:s}_t{t:d}.tif", device="cuda"
    )
    for sample in "ab":
        assert tree[sample].dataset.cupy.is_cupy
        found = tree[sample].image.isel(t=1).compute()
        np.testing.assert_array_equal(found.data.get(), pixels(1))


# --- the benchmark --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_the_benchmark_runs(tmp_path: Path, cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On minute files; that its lines run is all that is said."""
    scipy = pytest.importorskip("scipy.ndimage")

    class Filters:
        @staticmethod
        def gaussian_filter(block: Any, sigma: Any) -> Any:
            return standin_cupy._late(lambda view: scipy.gaussian_filter(view, sigma), block)

    root = Path(__file__).resolve().parents[1]
    monkeypatch.syspath_prepend(str(root / "ci"))
    monkeypatch.delitem(sys.modules, "bench.gpu", raising=False)
    gpu = import_module("bench.gpu")
    monkeypatch.delitem(sys.modules, "bench.gpu")
    monkeypatch.setattr(gpu, "card_ndimage", Filters)
    shop = import_module("bench.data").Workshop
    monkeypatch.setattr(gpu, "Workshop", lambda folder, quick: shop(folder, True, small=True))
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["gpu.sh", "--json", str(tmp_path / "build" / "gpu.json")])
    page = tmp_path / "docs" / "gpu.md"
    page.parent.mkdir()
    page.write_text((root / "docs" / "gpu.md").read_text())
    gpu.main()
    written = page.read_text()
    results = json.loads((tmp_path / "build" / "gpu.json").read_text())
    for row in results["rows"]:
        assert f"| {row['what']} |" in written
        assert (row["reached"] is None) == (not row["target"])
    assert len(results["rows"]) >= len(gpu.ROWS)
    assert "card stand-in" in written
    assert "Not run yet" not in written


def test_the_contenders_of_the_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured only where it is installed is at least put together rightly."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "ci"))
    pytest.importorskip("scipy")
    gpu = import_module("bench.gpu")
    monkeypatch.delitem(sys.modules, "bench.gpu")
    for path, contiguous in ((tmp_path / "a.tif", True), (tmp_path / "b.tif", False)):
        with tifffile.TiffWriter(path) as tif:
            for plane in pixels(3):
                tif.write(plane, contiguous=contiguous, photometric="minisblack", metadata=None)
        found = gpu.runs(path)
        assert (len(found) == 1) == contiguous
        stored = b"".join(path.read_bytes()[at : at + n] for at, n in found)
        assert stored == pixels(3).tobytes()

"""Pixels on a real card: ``sh ci/gpu.sh``. What can be tested without one is in test_device.py."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr
from conftest import pixels, reference_name, write, write_acquisition
from test_docs import FENCE, ROOT, run_examples

from xarray_tiffstack.array import device
from xarray_tiffstack.array.mosaic import tiles_of
from xarray_tiffstack.array.reads import source_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def absent() -> str:
    """Say what is missing for these tests."""
    with warnings.catch_warnings(action="ignore"):
        try:
            device.check("cuda")
            import cupy_xarray  # noqa: F401
        except (ImportError, RuntimeError) as error:
            return str(error)
    return ""


if absent():
    pytest.skip(absent(), allow_module_level=True)

# What cupy warns of is its own affair.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]


@pytest.fixture
def cp() -> Any:
    return pytest.importorskip("cupy")


SELECTIONS: dict[str, dict[str, Any]] = {
    "all": {},
    "a channel and a plane": {"channel": 1, "z": 2},
    "planes backwards": {"z": slice(None, None, -1)},
    "some of everything": {"channel": [2, 0], "stack": slice(1, 4), "z": [3, 0, 1], "y": 2},
    "rows and columns": {"y": slice(1, 6, 2), "x": [7, 1]},
    "nothing": {"z": slice(2, 2)},
    "one pixel": {"channel": 0, "stack": 4, "z": 3, "y": 2, "x": 1},
    "one line across": {"y": 3, "z": 0},
}


def both(folder: Path, **keywords: Any) -> tuple[xr.Dataset, xr.Dataset]:
    """Open on the host and on the card."""
    host, card = (
        xr.open_dataset(folder, engine="tiffstack", device=device, **keywords)
        for device in (None, "cuda")
    )
    return host, card


def same(card: xr.DataArray, host: xr.DataArray) -> None:
    """Compute on the card, and compare with the host, labels and all."""
    computed = card.compute()
    assert computed.cupy.is_cupy
    xr.testing.assert_identical(computed.cupy.as_numpy(), host.compute())


# --- to the card and back -------------------------------------------------------------------


def test_as_cupy_is_cupy_as_numpy(shared_acquisition: Path, opened: list[str]) -> None:
    ds = xr.open_dataset(shared_acquisition, engine="tiffstack")
    opened.clear()
    card = ds.image.cupy.as_cupy()
    assert card.cupy.is_cupy
    assert not ds.image.cupy.is_cupy
    plane = card.sel(channel=560).isel(stack=1).isel(z=3)
    assert not opened
    same(plane, ds.image.sel(channel=560, stack=1).isel(z=3))
    xr.testing.assert_identical(card.cupy.as_numpy().compute(), ds.image.compute())
    back = (card * 2).cupy.as_numpy()
    assert not back.cupy.is_cupy
    xr.testing.assert_identical(back.compute(), (ds.image * 2).compute())
    same((ds.image * 2).cupy.as_cupy(), ds.image * 2)
    loaded = ds.image.sel(channel=560).load()
    same(loaded.cupy.as_cupy(), loaded)


def test_a_dataset(shared_acquisition: Path) -> None:
    host, card = both(shared_acquisition)
    for ds in (card, host.cupy.as_cupy()):
        assert ds.cupy.is_cupy
        for name in ds.coords:
            assert isinstance(ds[name].data, np.ndarray)
            xr.testing.assert_identical(ds[name].variable, host[name].variable)
        same(ds.image, host.image)
        xr.testing.assert_identical(ds.cupy.as_numpy().compute(), host.compute())
        xr.testing.assert_identical(ds.mean("stack").cupy.as_numpy().channel, host.channel)


@pytest.mark.parametrize("name", SELECTIONS)
def test_selections(shared_acquisition: Path, name: str) -> None:
    host, card = both(shared_acquisition)
    same(card.image.isel(SELECTIONS[name]), host.image.isel(SELECTIONS[name]))


def test_transposed_and_cut(shared_acquisition: Path) -> None:
    def of(ds: xr.Dataset) -> xr.DataArray:
        return ds.image.transpose("x", "z", ...).chunk(stack=2, x=5).isel(z=slice(None, None, 2))

    host, card = both(shared_acquisition)
    assert source_of(of(card).data).device == "cuda"
    same(of(card), of(host))


@pytest.mark.parametrize("chunks", [{}, {"z": 3}, "auto", {"stack": 2, "y": 4}])
def test_chunks(shared_acquisition: Path, chunks: Any) -> None:
    host, card = both(shared_acquisition, chunks=chunks)
    same(card.image, host.image)


def test_points(shared_acquisition: Path) -> None:
    host, card = both(shared_acquisition)
    at = {"z": xr.DataArray([3, 0, 1], dims="p"), "y": xr.DataArray([1, 5, 2], dims="p")}
    same(card.image.isel(at), host.image.isel(at))


@pytest.mark.parametrize(
    "storage", [{"compression": "lzw"}, {"compression": "zstd"}, {"byteorder": ">"}], ids=str
)
def test_decoded_on_the_host(tmp_path: Path, storage: dict[str, Any]) -> None:
    host, card = both(write_acquisition(tmp_path / "raw", **storage))
    same(card.image, host.image)


def test_holes_and_short_files(acquisition: Path) -> None:
    (acquisition / reference_name(1, 2)).unlink()
    tifffile.imwrite(
        acquisition / reference_name(2, 0), pixels(10)[:3], photometric="minisblack", metadata=None
    )
    host, card = both(acquisition, validate="headers", fill_value=7)
    same(card.image, host.image)
    xr.testing.assert_identical(card.present, host.present)


def test_mosaic(tmp_path: Path) -> None:
    for row, col in np.ndindex(2, 3):
        write(tmp_path / f"slide_r{row}_c{col}.tif", 3 * row + col)
    host, card = both(tmp_path, pattern="slide_r{row:d}_c{col:d}.tif", mosaic=True, overlap=2)
    assert tiles_of(card.image.data).device == "cuda"
    for select in ({}, {"z": 2}, {"y": slice(2, 9), "x": [1, 15]}, {"x": 3, "y": 4}):
        same(card.image.isel(select), host.image.isel(select))
    same(host.image.cupy.as_cupy(), host.image)


# --- computing ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "compute",
    [
        lambda image: image.mean("stack"),
        lambda image: image.mean(),
        lambda image: (image.astype("float32") - 100).clip(0).max(("y", "x")),
        lambda image: image.sel(channel=560).isel(z=slice(0, 3)).sum(),
        lambda image: image.astype("float32").std("z"),
        lambda image: image.coarsen(y=2, x=2).mean(),
        lambda image: image.where(image > 10, 0),
    ],
    ids=["mean of stacks", "mean", "clip, max", "sum", "std", "coarsen", "where"],
)
def test_computed_on_the_card(
    shared_acquisition: Path, compute: Callable[[xr.DataArray], xr.DataArray]
) -> None:
    host, card = both(shared_acquisition)
    found = compute(card.image).compute()
    assert found.cupy.is_cupy
    xr.testing.assert_allclose(found.cupy.as_numpy(), compute(host.image).compute())


def test_overlapping_filters(shared_acquisition: Path) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    from cupyx.scipy import ndimage as on_card

    def smooth(image: xr.DataArray, gaussian_filter: Callable[..., Any]) -> da.Array:
        image = image.chunk(y=3, x=4).astype("float32")
        sigma, depth = (0, 0, 0, 0.5, 0.5), dict(zip(range(5), (0, 0, 0, 2, 2), strict=True))
        return image.data.map_overlap(
            gaussian_filter, sigma=sigma, depth=depth, boundary="reflect", meta=image.data._meta
        )

    host, card = both(shared_acquisition)
    found = smooth(card.image, on_card.gaussian_filter).compute().get()
    expected = smooth(host.image, ndimage.gaussian_filter).compute()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_the_example_of_the_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    text = text.replace(">>> device = None ", '>>> device = "cuda" ')
    variables: dict[str, Any] = {"__name__": "__main__"}
    for kind, block in FENCE.findall(text):
        if kind == "python":
            run_examples(block, variables, "gpu.md")
    assert variables["restored"].cupy.is_cupy


# --- streams and memory ---------------------------------------------------------------------


def large(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """One file of 100 MB."""
    stack = np.random.default_rng(0).integers(0, 2**16, (48, 1024, 1024), "uint16")
    (tmp_path / "raw").mkdir()
    path = tmp_path / "raw" / reference_name(1, 0)
    tifffile.imwrite(path, stack, photometric="minisblack", metadata=None)
    return tmp_path / "raw", stack


def test_while_the_card_is_busy(tmp_path: Path, cp: Any) -> None:
    """Blocks in the memory of arrays that kernels still read, on the default and other streams."""
    folder, stack = large(tmp_path)
    image = xr.open_dataset(folder, engine="tiffstack", device="cuda").image.chunk(z=16)
    with dask.config.set(scheduler="synchronous"):
        for stream in (cp.cuda.Stream.null, cp.cuda.Stream(non_blocking=True)):
            with stream:
                block = image.isel(channel=0, stack=0, z=slice(0, 16)).data
                later = image.isel(channel=0, stack=0, z=slice(16, 32)).data
                for _ in range(10):
                    found = block.to_delayed().item().compute()
                    sums = [found + cp.uint16(i) for i in range(20)]
                    del found
                    again = later.to_delayed().item().compute()
                    for i, each in enumerate(sums):
                        assert bool((each == cp.asarray(stack[:16] + np.uint16(i))).all())
                    assert bool((again == cp.asarray(stack[16:32])).all())


def test_many_threads(tmp_path: Path, cp: Any) -> None:
    folder, stack = large(tmp_path)
    image = xr.open_dataset(folder, engine="tiffstack", device="cuda").image.chunk(z=1, y=256)
    for _ in range(5):
        found = image.compute(num_workers=32)
        np.testing.assert_array_equal(found.data.get().squeeze(), stack)


def test_a_file_that_breaks_off(acquisition: Path) -> None:
    image = xr.open_dataset(acquisition, engine="tiffstack", device="cuda").image
    path = acquisition / reference_name(1, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises((OSError, ValueError), match=path.name):
        image[1].compute()
    path.write_bytes(whole)
    np.testing.assert_array_equal(image[1, 2].compute().data.get(), pixels(7))


def test_in_other_processes(shared_acquisition: Path) -> None:
    distributed = pytest.importorskip("distributed")
    host, card = both(shared_acquisition)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster),
    ):
        found = card.image.sum(("z", "y", "x")).cupy.as_numpy().compute()
    xr.testing.assert_identical(found, host.image.sum(("z", "y", "x")).compute())


def test_the_second_card(shared_acquisition: Path, cp: Any) -> None:
    if cp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("there is one card")
    ds = xr.open_dataset(shared_acquisition, engine="tiffstack", device="cuda:1")
    block = ds.image.sel(channel=642, stack=4).data.to_delayed().item().compute()
    assert block.device.id == 1
    np.testing.assert_array_equal(block.get(), pixels(14))


# --- saving and errors ----------------------------------------------------------------------


def test_to_zarr(shared_acquisition: Path, tmp_path: Path) -> None:
    host, card = both(shared_acquisition)
    with pytest.raises(TypeError, match="Implicit conversion"):
        card.to_zarr(tmp_path / "refused.zarr", zarr_format=2)
    for name, ds, expected in (
        ("files", card, host),
        ("computed", card.assign(image=card.image * 2), host.assign(image=host.image * 2)),
    ):
        ds.cupy.as_numpy().to_zarr(tmp_path / name, zarr_format=2)
        found = xr.open_zarr(tmp_path / name).image
        np.testing.assert_array_equal(found, expected.image.values)


def test_to_ome_zarr(shared_acquisition: Path, tmp_path: Path) -> None:
    host, card = both(shared_acquisition)
    assert card.tiffstack.to_ome_zarr(tmp_path / "a.zarr", verify=True, progress=False).verified.ok
    assert host.tiffstack.verify(tmp_path / "a.zarr", progress=False).ok
    doubled = card.assign(image=card.image * 2)
    doubled.tiffstack.to_ome_zarr(tmp_path / "b.zarr", progress=False)
    with xr.open_datatree(tmp_path / "b.zarr", engine="zarr") as tree:
        np.testing.assert_array_equal(
            tree["0"].image.transpose(*host.image.dims), 2 * host.image.values
        )


def test_no_such_card(shared_acquisition: Path, cp: Any) -> None:
    count = cp.cuda.runtime.getDeviceCount()
    with pytest.raises(RuntimeError, match=f"there is no 'cuda:{count}'"):
        xr.open_dataset(shared_acquisition, engine="tiffstack", device=f"cuda:{count}")

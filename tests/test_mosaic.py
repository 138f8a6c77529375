"""Tiles put together along x, y and z."""

from __future__ import annotations

import os
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr
from conftest import pixels, reference_name, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_lazy import indexers, read_bytes

from xarray_tiffstack.array.mosaic import tiles_of

if TYPE_CHECKING:
    from pathlib import Path

DEPTH, HEIGHTS, WIDTHS = 3, (6, 6, 4), (8, 5)  # the last row and column are smaller


def scene(channel: int, stack: int) -> np.ndarray:
    """Pixels of the whole mosaic, all different."""
    shape = (DEPTH, sum(HEIGHTS), sum(WIDTHS))
    return (np.arange(np.prod(shape)).reshape(shape) + 1000 * (2 * channel + stack)).astype("u2")


def write_tiles(folder: Path, overlap: int = 0, missing: tuple[tuple[int, int], ...] = ()) -> Path:
    """Cut the scene of each channel and stack into tiles that share `overlap` pixels."""
    folder.mkdir()
    for ch, stack, row, col in product(range(2), range(2), range(3), range(2)):
        top, left = sum(HEIGHTS[:row]), sum(WIDTHS[:col])
        tile = scene(ch, stack)[
            :,
            max(top - overlap * (row > 0), 0) : top + HEIGHTS[row],
            max(left - overlap * (col > 0), 0) : left + WIDTHS[col],
        ]
        if (row, col) not in missing:
            name = reference_name(ch, stack, y=row, x=col)
            tifffile.imwrite(folder / name, tile, photometric="minisblack", metadata=None)
    return folder


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiles(tmp_path_factory.mktemp("mosaic") / "raw")


@pytest.fixture(scope="module")
def mosaic(tiles: Path) -> xr.Dataset:
    return xr.open_dataset(tiles, engine="tiffstack", mosaic=True)


@pytest.fixture(scope="module")
def loaded() -> xr.DataArray:
    whole = np.array([[scene(c, s) for s in range(2)] for c in range(2)])
    return xr.DataArray(whole, dims=("channel", "stack", "z", "y", "x"))


def bare(array: xr.DataArray) -> xr.DataArray:
    return array.drop_vars(array.coords).drop_attrs()


def test_it_is_the_scene(mosaic: xr.Dataset, loaded: xr.DataArray, tiles: Path) -> None:
    xr.testing.assert_equal(bare(mosaic.image.compute()), loaded)
    assert mosaic.x_offset.dims == ("x",)
    assert mosaic.x_offset.values.tolist() == [0] * 8 + [1] * 5
    assert mosaic.y_offset.values.tolist() == [0] * 6 + [1] * 6 + [2] * 4
    assert mosaic.present.dims == ("channel", "stack", "tile_y", "tile_x")
    path = mosaic.path.sel(channel=560, stack=1, tile_y=2, tile_x=0)
    assert path == str(tiles / reference_name(1, 1, y=2))
    assert tiles_of(mosaic.image.data) is not None


def test_one_file_of_each_tile_is_opened(tiles: Path, opened: list[str]) -> None:
    ds = xr.open_dataset(tiles, engine="tiffstack", mosaic=True)
    assert len(set(opened)) == 6
    opened.clear()
    ds.image.sel(channel=560).isel(stack=0).isel(z=1).isel(y=slice(2, 5), x=slice(7)).compute()
    assert len(set(opened)) == 1


def test_without_mosaic_tiles_stay_dimensions(tmp_path: Path) -> None:
    write_tiles(tmp_path / "raw")
    for name in os.listdir(tmp_path / "raw"):
        if "_002y" in name or "_001x" in name:  # those that are smaller
            (tmp_path / "raw" / name).unlink()
    ds = xr.open_dataset(tmp_path / "raw", engine="tiffstack")
    assert ds.image.dims == ("channel", "stack", "y_offset", "z", "y", "x")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_chain_equals_the_same_on_the_loaded_array(
    mosaic: xr.Dataset, loaded: xr.DataArray, data: st.DataObject
) -> None:
    lazy = mosaic.image.drop_vars(mosaic.image.coords)
    for _ in range(data.draw(st.integers(1, 4))):
        dims = [str(d) for d in lazy.dims if lazy.sizes[d]]
        if not dims:
            break
        dim = data.draw(st.sampled_from(dims))
        match data.draw(st.sampled_from(["isel", "isel", "transpose", "chunk"])):
            case "isel":
                key = {dim: data.draw(indexers(lazy.sizes[dim]))}
                lazy, loaded = lazy.isel(key), loaded.isel(key)
            case "transpose":
                order = data.draw(st.permutations([str(d) for d in lazy.dims]))
                lazy, loaded = lazy.transpose(*order), loaded.transpose(*order)
            case "chunk":
                lazy = lazy.chunk({dim: data.draw(st.integers(1, 7))})
    xr.testing.assert_equal(bare(lazy.compute(scheduler="synchronous")), loaded)


def test_chunks_are_those_of_the_tiles_or_uniform(mosaic: xr.Dataset, tmp_path: Path) -> None:
    assert mosaic.image.chunksizes["y"] == (6, 6, 4)
    assert mosaic.image.chunk(y=5).chunksizes["y"] == (5, 5, 5, 1)
    mosaic.to_zarr(tmp_path / "store.zarr", zarr_format=2)
    with xr.open_zarr(tmp_path / "store.zarr") as back:
        xr.testing.assert_identical(back.load(), mosaic.compute())


def test_a_missing_tile_is_filled(tmp_path: Path, loaded: xr.DataArray) -> None:
    write_tiles(tmp_path / "raw", missing=((1, 0),))
    ds = xr.open_dataset(tmp_path / "raw", engine="tiffstack", mosaic=True, fill_value=9)
    expected = loaded.copy(deep=True)
    expected[:, :, :, 6:12, :8] = 9
    xr.testing.assert_equal(bare(ds.image.compute()), expected)
    assert not ds.present.sel(tile_y=1, tile_x=0).any()
    assert int((~ds.present).sum()) == 4


@pytest.mark.parametrize("overlap", [2, 3, {"x": 3, "y": 3}])
def test_overlap_is_trimmed_half_from_each_side(
    tmp_path: Path, loaded: xr.DataArray, overlap: int | dict[str, int]
) -> None:
    pixels = overlap if isinstance(overlap, int) else 3
    write_tiles(tmp_path / "raw", overlap=pixels)
    ds = xr.open_dataset(tmp_path / "raw", engine="tiffstack", mosaic=True, overlap=overlap)
    xr.testing.assert_equal(bare(ds.image.compute()), loaded)
    half = pixels - pixels // 2
    assert ds.x_offset.values.tolist() == [0] * (8 - half) + [1] * (5 + half)
    ds.to_zarr(tmp_path / "store.zarr", zarr_format=2)  # chunks are uniform all the same


def test_overlap_as_a_fraction(tmp_path: Path) -> None:
    for col in range(3):
        tile = np.arange(20, dtype="u2")[None].repeat(4, 0) + 15 * col
        tifffile.imwrite(tmp_path / f"tile_c{col}.tif", tile, photometric="minisblack")
    ds = xr.open_dataset(
        tmp_path,
        engine="tiffstack",
        pattern="tile_c{col:d}.tif",
        mosaic=True,
        overlap=0.25,
        voxel_size={"x": 0.5},
    )
    assert ds.image[0].values.tolist() == list(range(50))
    assert ds.x.values.tolist() == [0.5 * i for i in range(50)]


def test_tokens_are_named_and_turned_round(tmp_path: Path, loaded: xr.DataArray) -> None:
    (tmp_path / "raw").mkdir()
    for (row, up), (col, name) in product(enumerate("210"), enumerate("AB")):
        top, left = 6 * row, 8 * col
        tile = scene(0, 0)[:, top : top + HEIGHTS[row], left : left + WIDTHS[col]]
        path = tmp_path / "raw" / f"v{up}_u{name}.tif"
        tifffile.imwrite(path, tile, photometric="minisblack")
    ds = xr.open_dataset(
        tmp_path / "raw",
        engine="tiffstack",
        pattern="v{up:d}_u{name_of_column:s}.tif",
        mosaic={"x": "name_of_column", "y": "-up"},
    )
    np.testing.assert_array_equal(ds.image, loaded[0, 0])
    assert ds.up.values.tolist() == [2] * 6 + [1] * 6 + [0] * 4
    assert ds.tile_y.values.tolist() == [2, 1, 0]


def test_a_table_of_positions(tmp_path: Path, loaded: xr.DataArray) -> None:
    (tmp_path / "raw").mkdir()
    stage = []
    for position, (row, col) in enumerate([(0, 1), (0, 0), (1, 0), (1, 1), (2, 1), (2, 0)]):
        tile = scene(0, 0)[:, 6 * row : 6 * row + 6, 8 * col : 8 * col + 8]
        tifffile.imwrite(tmp_path / "raw" / f"p{position}.tif", tile, photometric="minisblack")
        stage.append((position, -3.5 + 100 * col, 70.0 * row))
    ds = xr.open_dataset(
        tmp_path / "raw",
        engine="tiffstack",
        pattern="p{position:d}.tif",
        mosaic=pd.DataFrame(stage, columns=["position", "x", "y"]),
    )
    np.testing.assert_array_equal(ds.image, loaded[0, 0])
    assert ds.position.dims == ("tile_y", "tile_x")
    assert ds.x_position.values.tolist() == [-3.5] * 8 + [96.5] * 5


def test_tiles_that_do_not_fit(tmp_path: Path) -> None:
    raw = write_tiles(tmp_path / "raw")
    odd = np.zeros((DEPTH, 6, 7), "u2")
    for ch, stack in product(range(2), range(2)):
        tifffile.imwrite(raw / reference_name(ch, stack, y=1), odd, photometric="minisblack")
    with pytest.raises(ValueError, match=r"(?s)1 tiles do not fit.*y 1, x 0.*7.*8"):
        xr.open_dataset(raw, engine="tiffstack", mosaic=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mosaic": "yes"}, "mosaic must be .* not 'yes'"),
        ({"mosaic": {"x": "column"}}, r"not \{'x': 'column'\}"),
        ({"mosaic": {"t": "stack"}}, r"not \{'t': 'stack'\}"),
        ({"mosaic": True, "overlap": 50}, "tiles of 4 pixels cannot share that"),
        ({"overlap": 2}, "goes with mosaic="),
        ({"mosaic": True, "overlap": "a"}, "pixels, or a fraction below 1, not"),
        ({"mosaic": pd.DataFrame({"x": [1]})}, "needs a column that the file table has"),
    ],
)
def test_wrong_values(tiles: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        xr.open_dataset(tiles, engine="tiffstack", **options)  # type: ignore[arg-type]


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="counts bytes as Linux does")
def test_a_plane_of_a_mosaic_reads_that_plane(tmp_path: Path) -> None:
    for col in range(2):
        stack = np.full((16, 256, 256), col, "u2")
        tifffile.imwrite(tmp_path / f"tile_c{col}.tif", stack, photometric="minisblack")
    ds = xr.open_dataset(tmp_path, engine="tiffstack", pattern="tile_c{col:d}.tif", mosaic=True)
    for select in (
        lambda a: a.isel(z=5),
        lambda a: a.chunk(z=8, x=300).isel(z=5),
        lambda a: a.transpose("x", ...).isel(z=[5])[..., :, 0, :],
    ):
        select(ds.image).compute(scheduler="synchronous")
        before = read_bytes()
        select(ds.image).compute(scheduler="synchronous")
        # Where a chunk ends inside a tile, the rows on either side of the border are read.
        assert read_bytes() - before < 3 * 256 * 256 * 2 + 64 * 1024


def test_real_tiles_in_rows_and_columns(data: Path) -> None:
    ds = xr.open_dataset(
        data / "wipp_tiles_4x4",
        engine="tiffstack",
        pattern="img_r{row:d}_c{col:d}.ome.tif",
        mosaic=True,
    )
    assert dict(ds.image.sizes) == {"y": 4 * 281, "x": 4 * 376}
    for row, col in ((1, 1), (3, 2), (4, 4)):
        tile = tifffile.imread(data / "wipp_tiles_4x4" / f"img_r{row:03d}_c{col:03d}.ome.tif")
        found = ds.image.isel(y=ds["row"].values == row, x=ds["col"].values == col)
        np.testing.assert_array_equal(found, tile)


@pytest.mark.parametrize("chunks", [{}, {"z": 2}, "auto"])
def test_chunks_stay_those_of_the_tiles(tiles: Path, chunks: object) -> None:
    ds = xr.open_dataset(tiles, engine="tiffstack", mosaic=True, chunks=chunks)  # type: ignore[arg-type]
    assert ds.image.chunksizes["y"] == (6, 6, 4) or chunks == "auto"
    assert ds.image.sizes["x"] == 13


def test_headers_of_uneven_tiles(tmp_path: Path, loaded: xr.DataArray) -> None:
    raw = write_tiles(tmp_path / "raw")
    (raw / reference_name(0, 1, y=1, x=0)).write_bytes(b"II*")
    ds = xr.open_dataset(raw, engine="tiffstack", mosaic=True, validate="headers")
    expected = loaded.copy(deep=True)
    expected[0, 1, :, 6:12, :8] = 0
    xr.testing.assert_equal(bare(ds.image.compute()), expected)
    assert not ds.present.sel(channel=488, stack=1, tile_y=1, tile_x=0)


def test_a_single_pixel(mosaic: xr.Dataset, loaded: xr.DataArray) -> None:
    at = {"channel": 1, "stack": 0, "z": 2, "y": 13, "x": 9}
    assert mosaic.image.isel(at).compute() == loaded.isel(at)


def test_an_axis_of_the_files_called_like_a_token(tmp_path: Path) -> None:
    for at, part in product(range(2), range(3)):
        write(tmp_path / f"p{at}_part{part}.tif", 3 * at + part, shape=(2, 6, 8))
    ds = xr.open_dataset(
        tmp_path, engine="tiffstack", pattern="p{position:d}_part{part:d}.tif", pages="position"
    )
    assert ds.image.dims == ("position", "position_in_file", "y", "x")
    wanted = np.concatenate([pixels(3 + part, (2, 6, 8)) for part in range(3)])
    np.testing.assert_array_equal(ds.image.sel(position=1), wanted)
    np.testing.assert_array_equal(ds.part, np.repeat([0, 1, 2], 2))

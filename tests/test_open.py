"""What `xarray.open_dataset` gives, in every chunk mode, and what it costs."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import DATA, SHAPE, pixels, reference_name, write

import xarray_tiffstack
from xarray_tiffstack import Pattern

MODES: list[dict[str, object]] = [
    {},
    {"cache": False},
    {"chunks": {}},
    {"chunks": "auto"},
    {"chunks": {"z": 2}},
    {"chunks": {"stack": 2, "y": 4}},
    {"chunks": None},
]


def opened(source: object, **options: object) -> xr.Dataset:
    return xr.open_dataset(source, engine="tiffstack", **options)  # type: ignore[arg-type]


def test_the_labels_say_which_file_is_which(shared_acquisition: Path) -> None:
    ds = opened(shared_acquisition)
    assert dict(ds.image.sizes) == {"channel": 3, "stack": 5, "z": 4, "y": 6, "x": 8}
    assert ds.channel.values.tolist() == [488, 560, 642]
    assert ds.channel.attrs["units"] == "nanometer"
    assert ds.time.dims == ("channel", "stack")
    assert ds.time.attrs["units"] == "millisecond"
    assert ds.time.sel(channel=560, stack=2) == 2 * 43748 + 7
    assert ds.image.dtype == np.uint16
    for c, channel in enumerate(ds.channel.values):
        for stack in range(5):
            found = ds.image.sel(channel=channel, stack=stack)
            np.testing.assert_array_equal(found, pixels(c * 5 + stack))


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_every_chunk_mode_is_lazy_and_right(
    shared_acquisition: Path, mode: dict[str, object]
) -> None:
    ds = opened(shared_acquisition, **mode)
    assert isinstance(ds.image.data, da.Array)
    expected = np.stack([pixels(i) for i in range(15)]).reshape(3, 5, *SHAPE)
    np.testing.assert_array_equal(ds.image.values, expected)
    assert isinstance(ds.image.data, da.Array) or not mode  # .values caches nothing


def test_chunks_are_what_is_asked_for(shared_acquisition: Path) -> None:
    assert opened(shared_acquisition).image.chunks == ((3,), (5,), (4,), (6,), (8,))
    assert opened(shared_acquisition, chunks={"z": 3}).image.chunks[2] == (3, 1)
    assert opened(shared_acquisition, chunks={"stack": 2}).image.chunks[1] == (2, 2, 1)
    assert opened(shared_acquisition).image.chunk(stack=1).chunks[1] == (1,) * 5


def test_large_files_are_one_chunk_each(tmp_path: Path) -> None:
    for t in range(3):
        write(tmp_path / f"cell_t{t}.tif", t, shape=(3, 1024, 1024))
    ds = opened(tmp_path, pattern="cell_t{t:d}.tif")
    assert ds.image.chunks == ((1, 1, 1), (3,), (1024,), (1024,))
    assert opened(tmp_path, pattern="cell_t{t:d}.tif", chunks={}).image.chunks == ds.image.chunks


def test_opening_opens_one_file(shared_acquisition: Path, opened: list[str]) -> None:
    ds = xr.open_dataset(shared_acquisition, engine="tiffstack")
    assert len(set(opened)) == 1
    opened.clear()
    ds.image.sel(channel=560).isel(stack=3)[{"z": 2}].compute()
    assert [Path(p).name for p in set(opened)] == [reference_name(1, 3)]
    opened.clear()
    ds.image.isel(stack=[0, 4]).sel(channel=[488, 642]).isel(z=1).compute()
    assert len(set(opened)) == 4


def test_sources_of_every_kind_agree(shared_acquisition: Path) -> None:
    whole = opened(shared_acquisition)
    folder = str(shared_acquisition)
    paths = sorted(shared_acquisition.iterdir())
    for source in (
        folder,
        folder + "/",
        f"{folder}/*.tif",
        f"{folder}/**/*.tif",
        paths,
        iter(paths),
    ):
        xr.testing.assert_identical(opened(source), whole)
    table = xarray_tiffstack.scan(folder)
    xr.testing.assert_identical(opened(table), whole)
    half = opened(table[table["stack"] < 2])
    xr.testing.assert_equal(half, whole.sel(stack=[0, 1]))


def test_a_table_can_be_corrected(shared_acquisition: Path) -> None:
    table = xarray_tiffstack.scan(shared_acquisition)
    table["wavelength"] = table.wavelength.replace(488, 445)
    assert opened(table).channel.values.tolist() == [445, 560, 642]
    bare = pd.DataFrame({"path": table.path, "ch": table.ch, "stack": table["stack"]})
    assert opened(bare).image.dims == ("channel", "stack", "z", "y", "x")


def test_patterns_of_every_kind_agree(shared_acquisition: Path) -> None:
    template = (
        "{name}_Cam{camera}_ch{ch:d}_CAM{}_stack{stack:d}_{wavelength:d}nm_{time:d}msec_"
        "{time_abs:d}msecAbs_{x_offset:d}x_{y_offset:d}y_{z_offset:d}z_{t:d}t.tif"
    )
    expression = (
        r"(?P<name>[^_]+)_Cam(?P<camera>\w)_ch(?P<ch>\d+)_.*stack(?P<stack>\d+)_"
        r"(?P<wavelength>\d+)nm_(?P<time>\d+)msec_(?P<time_abs>\d+)msecAbs"
    )
    named = opened(shared_acquisition, pattern="aollsm")
    for pattern in (template, Pattern(template), expression):
        ds = opened(shared_acquisition, pattern=pattern)
        assert ds.image.dims == named.image.dims
        assert ds.channel.values.tolist() == named.channel.values.tolist()
        if pattern is not expression:
            assert ds.time.attrs == ds.time_abs.attrs == {"units": "millisecond"}
        np.testing.assert_array_equal(ds.image, named.image)


def test_the_dataset_says_where_it_comes_from(shared_acquisition: Path) -> None:
    ds = opened(shared_acquisition)
    assert ds.image.attrs["source"] == str(shared_acquisition)
    assert ds.image.attrs["convention"] == "aollsm"
    assert Pattern(ds.image.attrs["pattern"]).parse(reference_name(0, 0))
    assert ds.path.sel(channel=560, stack=3) == str(shared_acquisition / reference_name(1, 3))


def test_voxel_size_gives_coordinates_in_micrometers(shared_acquisition: Path) -> None:
    for size in (0.5, (0.5, 0.5, 0.5), {"z": 0.5, "y": 0.5, "x": 0.5}):
        ds = opened(shared_acquisition, voxel_size=size)
        assert ds.z.values.tolist() == [0, 0.5, 1, 1.5]
        assert ds.x.attrs["units"] == "micrometer"
    assert "z" not in opened(shared_acquisition).coords
    with pytest.raises(ValueError, match="voxel_size takes positive micrometers"):
        opened(shared_acquisition, voxel_size={"w": 1})


def test_drop_variables(shared_acquisition: Path) -> None:
    ds = opened(shared_acquisition, drop_variables=["time", "no such"])
    assert "time" not in ds.variables
    assert "time_abs" in ds.variables


def test_selection_by_time(shared_acquisition: Path) -> None:
    one = opened(shared_acquisition).sel(channel=560)
    by_time = one.swap_dims(stack="time")
    found = by_time.image.sel(time=90000, method="nearest")
    assert found["stack"] == 2
    np.testing.assert_array_equal(found, pixels(7))


def test_a_hole_is_filled_and_said(acquisition: Path) -> None:
    (acquisition / reference_name(1, 2)).unlink()
    ds = opened(acquisition)
    assert not ds.present.sel(channel=560, stack=2)
    assert int(ds.present.sum()) == 14
    assert ds.image.dtype == np.uint16
    assert not ds.image.sel(channel=560, stack=2).any()
    filled = opened(acquisition, fill_value=7)
    assert (filled.image.sel(channel=560, stack=2) == 7).all()
    with pytest.raises(
        ValueError, match=r'(?s)1 of 15 files missing.*channel=560, stack=2.*missing="fill"'
    ):
        opened(acquisition, missing="raise")


def test_a_counter_gap_is_reported_not_invented(acquisition: Path) -> None:
    for ch in range(3):
        (acquisition / reference_name(ch, 1)).unlink()
    ds = opened(acquisition)
    assert ds["stack"].values.tolist() == [0, 2, 3, 4]
    assert ds.tiffstack.report().gaps == {"stack": [1]}
    assert ds.tiffstack.report().missing == []


def test_pieces_continue_the_volume_along_z(tmp_path: Path) -> None:
    for ch in range(2):
        stem = reference_name(ch, 0).removesuffix(".tif")
        write(tmp_path / f"{stem}.tif", ch, shape=(5, 6, 8))
        write(tmp_path / f"{stem}_part0001.tif", 9 + ch, shape=(2, 6, 8))
    ds = opened(tmp_path)
    assert dict(ds.image.sizes) == {"channel": 2, "stack": 1, "z": 7, "y": 6, "x": 8}
    both = np.concatenate([pixels(1, (5, 6, 8)), pixels(10, (2, 6, 8))])
    np.testing.assert_array_equal(ds.image.sel(channel=560, stack=0), both)
    np.testing.assert_array_equal(ds.image.sel(channel=560, stack=0).isel(z=5), both[5])
    assert ds.present.dims == ("channel", "stack", "tile_z")
    assert ds.part.values.tolist() == [0] * 5 + [1] * 2


def test_iterations_of_a_script_are_a_dimension(tmp_path: Path) -> None:
    for i, (cam, y, t) in enumerate(np.ndindex(2, 3, 2)):
        write(
            tmp_path
            / f"Scan_Iter_0000_{t:04d}_Cam{'AB'[cam]}_ch0_CAM1_stack0000_488nm_0000000msec_"
            f"{106060251 + 1000 * (t * 3 + y):010d}msecAbs_000x_{y:03d}y_000z_{t:04d}t.tif",
            i,
        )
    ds = opened(tmp_path)
    assert dict(ds.image.sizes) == {
        "channel": 2,
        "stack": 1,
        "t": 2,
        "y_offset": 3,
        "z": 4,
        "y": 6,
        "x": 8,
    }
    assert ds.channel.values.tolist() == ["488nm_CamA", "488nm_CamB"]
    assert ds.time_abs.dims == ("t", "y_offset")
    assert ds.x_offset.ndim == 0
    for i, (cam, y, t) in enumerate(np.ndindex(2, 3, 2)):
        here = ds.image.sel(channel=f"488nm_Cam{'AB'[cam]}", y_offset=y, t=t, stack=0)
        np.testing.assert_array_equal(here, pixels(i))


def test_pickles_small_and_whole(shared_acquisition: Path) -> None:
    ds = opened(shared_acquisition).sel(channel=560)
    again = pickle.loads(pickle.dumps(ds))
    xr.testing.assert_identical(again, ds)
    np.testing.assert_array_equal(again.image.isel(z=1), ds.image.isel(z=1))
    for part in (
        ds.isel(stack=[3, 1]),
        ds.isel(stack=2, z=[1]),
        ds.isel(stack=slice(None, None, -2)),
    ):
        again = pickle.loads(pickle.dumps(part))
        xr.testing.assert_identical(again, part)
        np.testing.assert_array_equal(again.image.isel(y=2, z=0), part.image.isel(y=2, z=0))
    one = ds.image.isel(stack=0).data
    paths = len(os.fspath(shared_acquisition)) + len(reference_name(0, 0))
    assert len(pickle.dumps(list(one.__dask_graph__().values()))) < 5000 + paths


def test_real_lattice_light_sheet_file(data: Path) -> None:
    ds = opened(data / "aollsm_psf642")
    assert dict(ds.image.sizes) == {"channel": 1, "stack": 1, "z": 51, "y": 64, "x": 64}
    assert ds.channel.values.tolist() == [642]
    assert ds.time_abs == 8096612
    assert ds.image.sel(channel=642, stack=0).max() > 100


@pytest.mark.skipif(not DATA.is_dir(), reason="the real names are not beside this checkout")
def test_real_names_of_two_cameras_tiles_and_times(tmp_path: Path) -> None:
    lines = (DATA / "filenames" / "aollsm_petakit5d_demo.txt").read_text().splitlines()
    names = [line for line in lines if not line.startswith("#")]
    assert len(names) == 16
    for i, name in enumerate(names):
        write(tmp_path / name, i)
    ds = opened(tmp_path)
    for i, name in enumerate(names):
        camera, y, t = re.search(r"Cam(.)_.*_(\d+)y_.*_(\d+)t", name).groups()  # type: ignore[union-attr]
        here = ds.image.sel(channel=f"488nm_Cam{camera}", stack=0, y_offset=int(y), t=int(t))
        np.testing.assert_array_equal(here, pixels(i))
        assert here.camera == camera
        assert f"{here.time_abs.item():010d}msecAbs" in name
    assert dict(ds.image.sizes) == {
        "channel": 2,
        "stack": 1,
        "t": 2,
        "y_offset": 4,
        "z": 4,
        "y": 6,
        "x": 8,
    }

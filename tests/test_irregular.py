"""Folders that are not one regular array."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import xarray as xr
from conftest import DATA, pixels, reference_name, write

if TYPE_CHECKING:
    from pathlib import Path


def opened(source: object, **options: object) -> xr.Dataset:
    return xr.open_dataset(source, engine="tiffstack", **options)  # type: ignore[arg-type]


def test_headers_tell_what_is_broken_and_short(acquisition: Path) -> None:
    os.truncate(acquisition / reference_name(0, 0), 99)
    (acquisition / reference_name(1, 4)).write_text("disk full")
    last = write(acquisition / reference_name(2, 4), 14, shape=(3, 6, 8))
    single = write(acquisition / reference_name(2, 3), 13, shape=(1, 6, 8))
    ds = opened(acquisition, validate="headers")
    report = ds.tiffstack.report()
    assert len(report.unreadable) == 2
    assert not ds.present.sel(channel=488, stack=0)
    assert not ds.present.sel(channel=560, stack=4)
    assert report.short == [f"{single.name}: 1 plane", f"{last.name}: 3 planes"]
    assert dict(ds.image.sizes) == {"channel": 3, "stack": 5, "z": 4, "y": 6, "x": 8}
    found = ds.image.sel(channel=642, stack=4)
    np.testing.assert_array_equal(found[:3], pixels(14, (3, 6, 8)))
    assert not found[3].any()
    assert not found.isel(z=3, y=0).any()
    np.testing.assert_array_equal(found.isel(z=[3, 0, 2])[1:], pixels(14, (3, 6, 8))[[0, 2]])
    np.testing.assert_array_equal(ds.image.sel(channel=642, stack=3)[0], pixels(13, (1, 6, 8))[0])
    np.testing.assert_array_equal(ds.image.sel(channel=642, stack=2), pixels(12))


def test_the_longest_is_not_the_one_that_is_probed(acquisition: Path) -> None:
    write(acquisition / reference_name(0, 0), 0, shape=(2, 6, 8))
    assert opened(acquisition).image.sizes["z"] == 2
    assert opened(acquisition, validate="headers").image.sizes["z"] == 4


def test_every_file_is_opened_once_for_its_header(acquisition: Path, opened: list[str]) -> None:
    xr.open_dataset(acquisition, engine="tiffstack", validate="headers")
    assert len(set(opened)) == 15


def test_no_readable_header(acquisition: Path) -> None:
    for path in acquisition.iterdir():
        os.truncate(path, 3)
    with pytest.raises(OSError, match=r"(?s)none of 15 files can be read.*and 10 more"):
        opened(acquisition, validate="headers")


def test_several_samples_are_a_tree(acquisition: Path) -> None:
    shutil.copytree(acquisition, acquisition / "day 2")
    for stack in range(2):
        name = reference_name(0, stack).replace("ex6-2", "cell7")
        write(acquisition / name, 40 + stack, shape=(2, 3, 5))
    tree = xr.open_datatree(acquisition, engine="tiffstack")
    assert sorted(n.path for n in tree.leaves) == ["/cell7", "/day 2/ex6-2", "/ex6-2"]
    assert tree["cell7"].image.shape == (1, 2, 2, 3, 5)
    assert tree["cell7"].image.chunks is not None
    np.testing.assert_array_equal(tree["day 2/ex6-2"].image.sel(channel=560, stack=2), pixels(7))
    groups = xr.open_groups(acquisition, engine="tiffstack")
    xr.testing.assert_identical(groups["/cell7"], opened(acquisition, group="cell7"))


def test_a_tree_has_the_keywords_of_a_dataset(shared_acquisition: Path) -> None:
    for keyword in ("group", "patern"):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{keyword}'"):
            xr.open_datatree(shared_acquisition, engine="tiffstack", **{keyword: "x"})


def test_one_sample_is_the_root_of_a_tree(shared_acquisition: Path) -> None:
    tree = xr.open_datatree(shared_acquisition, engine="tiffstack", chunks={"stack": 1})
    xr.testing.assert_identical(tree.to_dataset(), opened(shared_acquisition, chunks={"stack": 1}))


def test_shapes_are_samples_where_headers_are_read(tmp_path: Path) -> None:
    for t in range(6):
        write(tmp_path / f"cell_t{t}.tif", t, shape=(6, 8) if t < 4 else (8, 6))
    tree = xr.open_datatree(
        tmp_path, engine="tiffstack", pattern="cell_t{t:d}.tif", validate="headers"
    )
    assert sorted(node.image.shape for node in tree.leaves) == [(2, 8, 6), (4, 6, 8)]
    with pytest.raises(ValueError, match=r"(?s)2 samples.*group='\(y: 6, x: 8\) uint16': 4 files"):
        opened(tmp_path, pattern="cell_t{t:d}.tif", validate="headers")


def test_positions_that_the_names_hide(tmp_path: Path) -> None:
    for stack in range(2):
        for position in range(2):
            clock = 5000 + 100 * stack + 10 * position
            name = reference_name(0, stack)
            head, tail = name.split("msec_")[0], name.split("msecAbs")[1]
            write(tmp_path / f"{head}msec_{clock:010d}msecAbs{tail}", 2 * stack + position)
    with pytest.raises(ValueError, match=r'(?s)differ only in time_abs.*duplicates="position"'):
        opened(tmp_path)
    ds = opened(tmp_path, duplicates="position")
    assert ds.image.dims[:3] == ("position", "channel", "stack")
    for stack in range(2):
        for position in range(2):
            found = ds.image.sel(stack=stack, position=position, channel=488)
            np.testing.assert_array_equal(found, pixels(2 * stack + position))


def test_pages_that_are_time(acquisition: Path) -> None:
    ds = opened(acquisition.joinpath("*ch0*"), pages="frame")
    assert ds.image.dims == ("channel", "stack", "frame", "y", "x")


def test_a_token_called_like_an_axis_of_the_files(tmp_path: Path) -> None:
    for x in (3, 7):
        write(tmp_path / f"img_x{x}_y5.tif", x)
    ds = opened(tmp_path, pattern="img_x{x:d}_y{y:d}.tif")
    assert ds.image.dims == ("x_offset", "z", "y", "x")
    assert ds.x_offset.values.tolist() == [3, 7]
    assert ds.y_offset == 5


@pytest.mark.parametrize(
    ("options", "size", "origin"),
    [
        ({"imagej": True, "resolution": (1e4, 1e4),
          "metadata": {"axes": "ZYX", "spacing": 0.5, "unit": "um"}},
         {"z": 0.5, "y": 1e-4, "x": 1e-4}, "imagej"),
        ({"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2,
                                    "PhysicalSizeZ": 1.5}},
         {"z": 1.5, "y": 0.2, "x": 0.2}, "ome"),
    ],
)  # fmt: skip
def test_voxel_size_from_the_files(
    tmp_path: Path, options: dict[str, object], size: dict[str, float], origin: str
) -> None:
    for t in range(2):
        tifffile.imwrite(
            tmp_path / f"cell_t{t}.tif", pixels(t), photometric="minisblack", **options
        )
    ds = opened(tmp_path, pattern="cell_t{t:d}.tif")
    for axis, step in size.items():
        assert ds[axis].values[1] == pytest.approx(step)
        assert ds[axis].attrs == {"units": "micrometer", "voxel_size_from": origin}
    given = opened(tmp_path, pattern="cell_t{t:d}.tif", voxel_size={"z": 2})
    assert given.z.values[1] == 2
    (said,) = given.tiffstack.report().disagreements
    assert "voxel_size z: 2" in said


@pytest.mark.skipif(not DATA.is_dir(), reason="the real sequences are not beside this checkout")
def test_real_settings_of_a_lattice_light_sheet() -> None:
    ds = opened(DATA / "aollsm_psf642")
    assert ds.z.values[1] == pytest.approx(0.1)
    assert ds.x.values[1] == pytest.approx(6.5 / 63.8, rel=1e-3)
    assert ds.x.attrs["voxel_size_from"] == "Settings.txt"
    assert ds.image.attrs["z_motion"] == "Z galvo & piezo"
    assert (ds.laser_power, ds.exposure, ds.exposure.units) == (100, 100, "millisecond")
    assert ds.tiffstack.report().disagreements == ["2 stacks in Settings.txt, 1 in the names"]


def test_lasers_stand_along_the_channels(acquisition: Path) -> None:
    lines = ["Z motion :\tSample piezo", "Angle between stage and bessel beam (deg) = 31.5"]
    for i, (wavelength, power) in enumerate(((642, 5), (488, 20), (560, 10))):
        lines += [
            f"S PZT Offset, Interval (um), # of Pixels for Excitation ({i}) :\t50\t0.4\t4",
            f"Excitation Filter, Laser, Power (%), Exp(ms) ({i}) :\tN/A\t{wavelength}\t{power}"
            f"\t{5 + i}",
        ]
    (acquisition / "ex6-2_Settings.txt").write_text("\n".join(lines) + "\n")
    ds = opened(acquisition)
    assert ds.laser_power.sel(channel=[488, 560, 642]).values.tolist() == [20, 10, 5]
    assert ds.exposure.sel(channel=642) == 5
    assert ds.image.attrs["stage_angle"] == 31.5
    assert ds.z.values[1] == pytest.approx(0.4 * np.sin(np.radians(31.5)))


def test_real_files_of_which_one_has_pixels(data: Path) -> None:
    source = data / "mm_scifio_zero_byte"
    with pytest.warns(UserWarning, match="19 of 20 files missing, because empty"):
        ds = opened(source, pattern="img_{t:d}_{channel}_{z:d}.tif")
    assert int(ds.present.sum()) == 1
    assert len(ds.tiffstack.report().unreadable) == 19


def test_a_token_called_like_another_axis_of_the_files(tmp_path: Path) -> None:
    for z in range(2):
        path = tmp_path / f"img_time3_z{z}.tif"
        metadata = {"axes": "TYX"}
        tifffile.imwrite(path, pixels(z), photometric="minisblack", imagej=True, metadata=metadata)
    ds = opened(tmp_path, pattern="img_time{time:d}_z{z:d}.tif")
    assert ds.image.dims == ("z", "time_in_file", "y", "x")
    assert ds.time == 3


def test_a_sample_without_a_readable_file(acquisition: Path) -> None:
    for name in ("ex7", "ex8"):
        (acquisition / reference_name(0, 0).replace("ex6-2", name)).write_bytes(b"II*")
    tree = xr.open_datatree(acquisition, engine="tiffstack", validate="headers")
    (node,) = tree.leaves
    assert node.image.sizes["stack"] == 5
    assert len(node.to_dataset().tiffstack.report().unreadable) == 2

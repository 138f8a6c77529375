"""The matrix of a skewed volume, against beads whose true places are known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
import zarr
from conftest import to_ome_zarr, write_acquisition

from xarray_tiffstack.look.napari import layers
from xarray_tiffstack.ome_zarr.journal import path_of

if TYPE_CHECKING:
    from pathlib import Path

ANGLE, STEP = 31.8, 0.4
SETTINGS = f"""\
S PZT Offset, Interval (um), # of Pixels for Excitation (0) :\t50\t{STEP}\t4
Z motion :\tSample piezo
Angle between stage and bessel beam (deg) = {ANGLE}
"""


@pytest.fixture
def skewed(tmp_path: Path) -> xr.Dataset:
    folder = write_acquisition(tmp_path / "raw", stacks=2)
    (folder / "ex6_Settings.txt").write_text(SETTINGS)
    return xr.open_dataset(folder, engine="tiffstack", voxel_size={"y": 0.1, "x": 0.1})


@pytest.mark.parametrize("direction", [1, -1])
def test_beads_come_to_their_true_places(skewed: xr.Dataset, direction: int) -> None:
    """Simulates the stage: where is a bead seen, in which plane, and where was it?"""
    angle = math.radians(ANGLE)
    rng = np.random.default_rng(0)
    places = rng.uniform(-10, 10, (50, 3))  # height, y, and along the stage, in micrometers
    # The sheet is tilted by the angle out of the way of the stage, and stays where it is. Height 0
    # is seen at x = 0 of the camera when the stage has moved by 0; x runs up or down the sheet.
    height, y, along = places.T
    seen_x = -direction * height / math.sin(angle)
    stage = direction * (along - seen_x * math.cos(angle))
    seen = np.stack([stage * math.sin(angle), y, seen_x, np.ones(50)])
    matrix = skewed.tiffstack.affine(direction=direction)
    np.testing.assert_allclose((matrix @ seen)[:3].T, places, atol=1e-9)
    assert np.linalg.det(matrix) == pytest.approx(1)  # neither mirrored nor stretched
    np.testing.assert_allclose(skewed.z.diff("z"), STEP * math.sin(angle))


def test_distances_are_true(skewed: xr.Dataset) -> None:
    """One step of the stage is one step of the stage, and within a plane nothing changes."""
    matrix = skewed.tiffstack.affine()
    plane = float(skewed.z[1] - skewed.z[0])
    assert np.linalg.norm(matrix @ [plane, 0, 0, 0]) == pytest.approx(STEP)
    for within in ([0, 1, 0, 0], [0, 0, 1, 0], [0, 3, 4, 0]):
        assert np.linalg.norm(matrix @ within) == pytest.approx(np.linalg.norm(within))


def test_napari_is_given_it(skewed: xr.Dataset) -> None:
    _, about, _ = layers(skewed, direction=-1)[0]
    assert about["axis_labels"] == ("stack", "z", "y", "x")
    np.testing.assert_allclose(about["affine"][1:, 1:], skewed.tiffstack.affine(direction=-1))
    np.testing.assert_array_equal(about["affine"][0], [1, 0, 0, 0, 0])
    assert "affine" not in layers(skewed)[0][1]


def test_of_others_it_is_refused(shared_acquisition: Path, skewed: xr.Dataset) -> None:
    with pytest.raises(ValueError, match="stage_angle"):
        xr.open_dataset(shared_acquisition, engine="tiffstack").tiffstack.affine()
    with pytest.raises(ValueError, match="direction"):
        skewed.tiffstack.affine(direction=0)


@pytest.mark.parametrize("version", ["0.6", "0.5", "0.4"])
def test_a_store_keeps_it(skewed: xr.Dataset, tmp_path: Path, version: str) -> None:
    from xarray_tiffstack.look.store import open_store

    target = tmp_path / "skewed.zarr"
    skewed.tiffstack.to_ome_zarr(target, ngff_version=version, progress=False)
    kept = zarr.open_group(target, mode="r").attrs["upright"]
    np.testing.assert_allclose(kept["affine"], skewed.tiffstack.affine())
    assert (kept["axes"], kept["unit"], kept["direction"]) == (["z", "y", "x"], "micrometer", 1)
    again = open_store(target)
    np.testing.assert_array_equal(again.tiffstack.affine(), skewed.tiffstack.affine())
    np.testing.assert_allclose(again.z.values, skewed.z.values)
    _, about, _ = layers(again, direction=-1)[0]
    np.testing.assert_allclose(about["affine"][1:, 1:], skewed.tiffstack.affine(direction=-1))
    assert skewed.tiffstack.verify(target, progress=False).ok
    assert zarr.open_group(target, mode="r").attrs["upright"] == kept


def test_another_project_leads_voxels_to_their_upright_places(
    skewed: xr.Dataset, tmp_path: Path
) -> None:
    """By what a store of NGFF 0.6 says, ome-zarr-models alone: scale, translation, affine."""
    v06 = pytest.importorskip("ome_zarr_models.v06", reason="needs ome-zarr-models 1.8 or newer")
    target = tmp_path / "skewed.zarr"
    to_ome_zarr(skewed.isel(x=slice(2, None)), target, ngff_version="0.6", levels=2)
    image = v06.Image.from_zarr(zarr.open_group(target, mode="r"))
    (multiscale,) = image.ome_attributes.multiscales
    assert [system.name for system in multiscale.coordinateSystems] == ["physical", "upright"]
    assert multiscale.intrinsic_coordinate_system.name == "physical"
    (upright,) = multiscale.coordinateTransformations
    for level, dataset in enumerate(multiscale.datasets):
        labels = xr.open_zarr(target, group=str(level), consolidated=False)
        at = {"stack": 1, "channel": 2, "z": 3, "y": 1, "x": 2}
        place = dataset.coordinateTransformations[0].transform_point(tuple(at.values()))
        voxel = [labels[dim].values[at[dim]] for dim in "zyx"]
        np.testing.assert_allclose(place[2:], voxel)
        found = upright.transform_point(place)
        np.testing.assert_allclose(found[2:], (skewed.tiffstack.affine() @ [*voxel, 1])[:3])
        assert found[:2] == place[:2]


def test_it_needs_one_unit(skewed: xr.Dataset, tmp_path: Path) -> None:
    """A matrix mixes z with x: where one is in pixels, there is none that is right."""
    unknown = skewed.drop_vars(["y", "x"])
    with pytest.warns(UserWarning, match="voxel_size="):
        to_ome_zarr(unknown, tmp_path / "none.zarr", ngff_version="0.6")
    attrs: Any = zarr.open_group(tmp_path / "none.zarr", mode="r").attrs["ome"]
    assert len(attrs["multiscales"][0]["coordinateSystems"]) == 1
    assert "coordinateTransformations" not in attrs["multiscales"][0]
    size = {"y": 0.1, "x": 0.1}
    to_ome_zarr(unknown, tmp_path / "some.zarr", ngff_version="0.6", voxel_size=size)
    attrs = zarr.open_group(tmp_path / "some.zarr", mode="r").attrs["ome"]
    assert len(attrs["multiscales"][0]["coordinateTransformations"]) == 1


def test_a_store_without_it_resumes_and_gets_it(skewed: xr.Dataset, tmp_path: Path) -> None:
    """A store of an older version of this program, whose conversion was interrupted."""
    target = tmp_path / "skewed.zarr"
    skewed.tiffstack.to_ome_zarr(target, progress=False)
    root = zarr.open_group(target, mode="r+")
    kept = root.attrs["upright"]
    complete = skewed.tiffstack.to_ome_zarr(target, progress=False)
    assert complete.written == 0
    del root.attrs["upright"]
    complete = skewed.tiffstack.to_ome_zarr(target, progress=False)
    assert complete.written == 0  # a complete store is left as it is
    root.attrs["tiffstack"] = {**root.attrs["tiffstack"], "state": "writing"}
    journal = zarr.open_array(target, path=path_of(0), mode="r+")
    journal[...] = np.nan
    assert skewed.tiffstack.to_ome_zarr(target, progress=False).written > 0
    assert zarr.open_group(target, mode="r").attrs["upright"] == kept
    assert skewed.tiffstack.verify(target, progress=False).ok


def test_others_have_none(shared_acquisition: Path, tmp_path: Path) -> None:
    ds = xr.open_dataset(shared_acquisition, engine="tiffstack")
    ds.tiffstack.to_ome_zarr(tmp_path / "store.zarr", progress=False)
    assert "upright" not in zarr.open_group(tmp_path / "store.zarr", mode="r").attrs

"""Metadata and pixels as programs that nobody here wrote see them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from conftest import pixels, to_ome_zarr, validate, write
from hypothesis import given
from hypothesis import strategies as st

from xarray_tiffstack.ome_zarr.images import axes, collect
from xarray_tiffstack.ome_zarr.levels import Coarser, halve, level_factors
from xarray_tiffstack.ome_zarr.metadata import colour, ome_xml

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS = ("0.5", "0.4")


def dataset(folder: Path, **options: Any) -> xr.Dataset:
    return xr.open_dataset(folder, engine="tiffstack", **options)


def in_order(ds: xr.Dataset) -> xr.Dataset:
    return ds.transpose("stack", "channel", "z", "y", "x")


def multiscale(store: Path, path: str = "") -> dict[str, Any]:
    attrs = dict(zarr.open_group(store, path=path, mode="r").attrs)
    attrs = attrs.get("ome", attrs)
    return attrs["multiscales"][0]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("options", [{}, {"voxel_size": (0.5, 0.1, 0.1)}], ids=["plain", "voxel"])
def test_comes_back_identical(shared_acquisition, tmp_path, version, options):
    ds = dataset(shared_acquisition, **options)
    store = tmp_path / "a.zarr"
    to_ome_zarr(ds, store, levels=2, ngff_version=version)
    tree = xr.open_datatree(store, engine="zarr")
    xr.testing.assert_identical(tree["0"].to_dataset(), in_order(ds))
    coarse = in_order(ds).image.coarsen(y=2, x=2).mean()
    np.testing.assert_array_equal(tree["1"].image, np.floor(coarse + 0.5))


def test_every_store_of_these_tests_is_validated(shared_acquisition, tmp_path):
    """What conftest.py does to each store finds what is wrong with this one."""
    store = tmp_path / "a.zarr"
    to_ome_zarr(dataset(shared_acquisition), store)
    attrs: Any = zarr.open_group(store).attrs
    block = attrs["ome"]
    del block["multiscales"][0]["axes"]
    attrs["ome"] = block
    with pytest.raises(ValueError, match="axes"):
        validate(store)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.filterwarnings("ignore")  # another package's
def test_ome_zarr_py_reads_the_same_pixels(shared_acquisition, tmp_path, version):
    pytest.importorskip("ome_zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    store = tmp_path / "a.zarr"
    ds = dataset(shared_acquisition)
    to_ome_zarr(ds, store, levels=2, ngff_version=version)
    (node,) = Reader(parse_url(store))()
    np.testing.assert_array_equal(node.data[0].compute(), in_order(ds).image)
    assert node.metadata["channel_names"] == ["488 nm", "560 nm", "642 nm"]
    assert [axis["name"] for axis in node.metadata["axes"]] == ["stack", "channel", "z", "y", "x"]


@pytest.mark.parametrize(("version", "shards"), [("0.5", None), ("0.5", "auto"), ("0.4", None)])
def test_tensorstore_reads_the_same_pixels(shared_acquisition, tmp_path, version, shards):
    tensorstore = pytest.importorskip("tensorstore")
    store = tmp_path / "a.zarr"
    ds = dataset(shared_acquisition)
    to_ome_zarr(
        ds, store, levels=2, ngff_version=version, chunks={"z": 2, "y": 4, "x": 4},
        shards=shards,
    )  # fmt: skip
    full = in_order(ds).image
    for level, expected in enumerate((full, np.floor(full.coarsen(y=2, x=2).mean() + 0.5))):
        spec = {
            "driver": "zarr3" if version == "0.5" else "zarr",
            "kvstore": {"driver": "file", "path": str(store / str(level) / "image")},
        }
        read = tensorstore.open(spec).result().read().result()
        np.testing.assert_array_equal(read, expected)


def test_axes_scales_and_channels(shared_acquisition, tmp_path):
    store = tmp_path / "a.zarr"
    to_ome_zarr(dataset(shared_acquisition, voxel_size=(0.5, 0.1, 0.2)), store, levels=2)
    image = multiscale(store)
    assert image["axes"] == [
        {"name": "stack", "type": "time", "unit": "millisecond"},
        {"name": "channel", "type": "channel"},
        *({"name": d, "type": "space", "unit": "micrometer"} for d in "zyx"),
    ]
    full, coarse = (d["coordinateTransformations"] for d in image["datasets"])
    assert full[0]["scale"] == [43748, 1, 0.5, 0.1, 0.2]
    assert coarse[0]["scale"] == [43748, 1, 0.5, 0.2, 0.4]
    assert coarse[1]["translation"] == pytest.approx([0, 0, 0, 0.05, 0.1])
    assert [d["path"] for d in image["datasets"]] == ["0/image", "1/image"]
    x = xr.open_datatree(store, engine="zarr")["1"]["x"]
    np.testing.assert_allclose(x, 0.1 + 0.4 * np.arange(4))
    omero = zarr.open_group(store, mode="r").attrs["ome"]["omero"]
    assert [c["color"] for c in omero["channels"]] == [colour(w) for w in (488, 560, 642)]
    for channel in omero["channels"]:
        assert 0 <= channel["window"]["start"] < channel["window"]["end"] <= 65535


@pytest.mark.parametrize("version", VERSIONS)
def test_further_dimensions_become_a_collection(tmp_path, version):
    cells = list(itertools.product(range(2), range(3), range(2)))
    for i, (p, t, c) in enumerate(cells):
        write(tmp_path / "raw" / f"cell_p{p}_t{t}_c{c}.tif", i)
    ds = dataset(tmp_path / "raw", pattern="cell_p{position:d}_t{time:d}_c{channel:d}.tif")
    store = tmp_path / "a.zarr"
    to_ome_zarr(ds, store, levels=2, ngff_version=version, verify=True)
    tree = xr.open_datatree(store, engine="zarr")
    for p in range(2):
        expected = ds.isel(position=p).transpose("time", "channel", "z", "y", "x")
        xr.testing.assert_identical(tree[f"{p}/0"].to_dataset(), expected)
        assert multiscale(store, str(p))["name"] == f"position={p}"


def positions(raw: Path) -> xr.Dataset:
    """Two positions whose time is called a stack, of 3 stacks x 2 channels."""
    for i, (p, t, c) in enumerate(itertools.product(range(2), range(3), (488, 642))):
        write(raw / f"cell_p{p}_s{t}_{c}nm.tif", i)
    pattern = "cell_p{position:d}_s{stack:d}_{channel:d}nm.tif"
    ds = dataset(raw, pattern=pattern, voxel_size=(0.5, 0.1, 0.2))
    ds["channel"].attrs["units"] = "nanometer"
    return ds


@pytest.mark.parametrize("version", VERSIONS)
def test_a_collection_is_described_in_ome_xml(tmp_path, version):
    ome_types = pytest.importorskip("ome_types")
    store = tmp_path / "a.zarr"
    to_ome_zarr(positions(tmp_path / "raw"), store, ngff_version=version)
    xml = (store / "OME" / "METADATA.ome.xml").read_bytes()
    found = ome_types.from_xml(xml, validate=True)  # against the schema
    series = dict(zarr.open_group(store, path="OME", mode="r").attrs)
    assert [image.id for image in found.images] == [
        f"Image:{path}" for path in series.get("ome", series)["series"]
    ]
    for p, image in enumerate(found.images):
        assert image.name == f"position={p}"
        about = image.pixels
        sizes = [getattr(about, f"size_{axis}") for axis in "tczyx"]
        array: Any = zarr.open_array(store, path=f"{p}/0/image", mode="r")
        assert (sizes, about.type.value) == (list(array.shape), "uint16")
        for axis, size in {"z": 0.5, "y": 0.1, "x": 0.2}.items():
            assert getattr(about, f"physical_size_{axis}_quantity").to("um").m == size
        assert [channel.name for channel in about.channels] == ["488 nm", "642 nm"]


def test_ome_xml_says_nothing_that_is_not_known(tmp_path):
    ds = positions(tmp_path / "raw")
    plain = ome_xml(collect(ds.drop_vars(["z", "y", "x"])))
    assert plain is not None
    assert b"PhysicalSize" not in plain
    assert ome_xml(collect(ds.astype("int64"))) is None  # OME-XML has no such pixels
    assert ome_xml(collect(ds.isel(position=0))) is None  # one image


@pytest.mark.parametrize("version", VERSIONS)
def test_wells_become_a_plate(tmp_path, version):
    wells = ("A01", "B03")
    for i, (well, field, c) in enumerate(itertools.product(wells, range(2), range(2))):
        write(tmp_path / "raw" / f"{well}_f{field}_c{c}.tif", i, shape=(6, 8))
    ds = dataset(tmp_path / "raw", pattern=r"{well}_f{field:d}_c{channel:d}.tif")
    store = tmp_path / "a.zarr"
    to_ome_zarr(ds, store, levels=1, ngff_version=version, verify=True)
    tree = xr.open_datatree(store, engine="zarr")
    for well, field in itertools.product(wells, range(2)):
        expected = ds.sel(well=well, field=field)
        found = tree[f"{well[0]}/{well[1:]}/{field}/0"].to_dataset()
        xr.testing.assert_identical(found, expected)


def test_colour_samples_are_channels(tmp_path):
    (tmp_path / "raw").mkdir()
    rgb = np.arange(2 * 6 * 8 * 3, dtype="uint8").reshape(2, 6, 8, 3)
    for t in range(2):
        tifffile.imwrite(tmp_path / "raw" / f"a_t{t}.tif", rgb[t], photometric="rgb")
    ds = dataset(tmp_path / "raw", pattern="a_t{t:d}.tif")
    store = tmp_path / "a.zarr"
    to_ome_zarr(ds, store)
    assert axes(ds) == {"t": "time", "sample": "channel", "y": "space", "x": "space"}
    found = xr.open_datatree(store, engine="zarr")["0"].image
    np.testing.assert_array_equal(found, rgb.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("spacing", "levels", "last"),
    [
        ({}, "auto", {"z": 4, "y": 4, "x": 4}),
        ({"z": 1.0, "y": 0.1, "x": 0.1}, "auto", {"z": 1, "y": 4, "x": 4}),
        ({"z": 0.2, "y": 0.1, "x": 0.1}, "auto", {"z": 2, "y": 4, "x": 4}),
        ({}, 1, {"z": 1, "y": 1, "x": 1}),
        ({}, 5, {"z": 4, "y": 16, "x": 16}),
    ],
)
def test_levels_approach_cubic_voxels(spacing, levels, last):
    assert level_factors({"z": 200, "y": 1024, "x": 768}, spacing, levels)[-1] == last


@pytest.mark.parametrize("levels", [0, -1, 2.5, "many", 40])
def test_impossible_levels_are_refused(levels):
    with pytest.raises(ValueError, match="levels"):
        level_factors({"z": 20, "y": 64, "x": 64}, {}, levels)


@pytest.mark.parametrize("modulus", [29, 251])  # in uint8, sums fit or do not
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint32", "int64", "float32"])
def test_halve_averages_pairs(dtype, modulus):
    fine = (pixels(0, (3, 5, 7)) * 37 % modulus).astype(dtype)
    coarse = halve(fine, (0, 2), np.empty((1, 5, 3), dtype))
    mean = fine[:2, :, :6].reshape(1, 2, 5, 3, 2).astype(float).mean((1, 4))
    assert coarse.dtype == fine.dtype
    expected = mean if dtype == "float32" else np.floor(mean + 0.5)
    np.testing.assert_allclose(coarse, expected.astype(dtype), rtol=1e-6)


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    halved=st.sets(st.integers(0, 2), min_size=1),
    axis=st.integers(0, 2),
    cut=st.integers(1, 9),
    modulus=st.sampled_from([257, 8190, 65521]),
    cached=st.sampled_from([1, 3, 2**18]),
)
def test_a_level_is_the_same_in_pieces(shape, halved, axis, cut, modulus, cached):
    shape = [1 if i < axis and i in halved else n for i, n in enumerate(shape)]
    fine = (pixels(0, shape, "uint32") * 7919 % modulus).astype("uint16")
    out = np.empty([n // 2 if i in halved else n for i, n in enumerate(shape)], fine.dtype)
    coarser, seen = Coarser(shape, sorted(halved), out, cached=cached), []
    for *outer, at in np.ndindex(*shape[:axis], -(-shape[axis] // cut)):
        piece = (*(slice(i, i + 1) for i in outer), slice(at * cut, (at + 1) * cut))
        start = [*outer, at * cut] + [0] * (2 - axis)
        coarser.take(start, fine[piece], lambda part: seen.append(part.ravel()))
    windows = {"zyx"[i]: 2 for i in halved}
    coarse = (
        xr.Variable(tuple("zyx"), fine).astype(float).coarsen(windows, np.mean, boundary="trim")
    )
    np.testing.assert_array_equal(coarser.pixels, np.floor(coarse + 0.5))
    np.testing.assert_array_equal(np.concatenate(seen), fine.ravel())


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("bdp2_nc2_nt6", "image--C{channel:d}--T{time:d}.tif"),
        ("cp_sbs_channel_index_well", None),
        ("leica_matrix_screener", None),
        ("aollsm_psf642", None),
        ("wipp_tiles_4x4", None),
        ("phenix_jump", None),
    ],
)
def test_real_sequences(data, tmp_path, name, pattern):
    ds = dataset(data / name, pattern=pattern, unmatched="ignore")
    store = tmp_path / "a.zarr"
    summary = to_ome_zarr(ds, store, verify=True)
    assert summary.verified is not None
    assert summary.verified.ok

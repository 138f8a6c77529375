"""Metadata and pixels as programs that nobody here wrote see them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from conftest import dataset, pixels, to_ome_zarr, validate, write
from hypothesis import given
from hypothesis import strategies as st

from xarray_tiffstack.ome_zarr.images import axes, collect
from xarray_tiffstack.ome_zarr.levels import Coarser, halve, level_factors
from xarray_tiffstack.ome_zarr.metadata import colour, ome_xml

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS = ("0.6", "0.5", "0.4")


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


@pytest.mark.parametrize("version", ["0.5", "0.4"])
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


@pytest.mark.parametrize(
    ("version", "shards"), [("0.6", "auto"), ("0.5", None), ("0.5", "auto"), ("0.4", None)]
)
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
            "driver": "zarr" if version == "0.4" else "zarr3",
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


# --- exact, or refused --------------------------------------------------------------------------


def written(tmp_path: Path, fine: np.ndarray, **options: Any) -> list[np.ndarray]:
    """Pixels of both levels of an image that is in memory."""
    ds = xr.Dataset({"image": (("t", "y", "x"), fine[None])})
    store = tmp_path / "a.zarr"
    summary = to_ome_zarr(ds, store, levels=2, verify=True, **options)
    assert summary.verified is not None
    assert summary.verified.ok
    return [zarr.open_array(store / f"{level}/image")[0] for level in (0, 1)]


@pytest.mark.parametrize("dtype", [">u2", ">f4", ">i8"])
def test_other_byte_orders(tmp_path, dtype):
    fine = np.arange(16, dtype=dtype).reshape(4, 4) * 3
    full, coarse = written(tmp_path, fine)
    np.testing.assert_array_equal(full, fine)
    mean = fine.reshape(2, 2, 2, 2).mean((1, 3))
    np.testing.assert_array_equal(coarse, mean if fine.dtype.kind == "f" else np.floor(mean + 0.5))


@pytest.mark.parametrize(("dtype", "most"), [("uint64", 2**64 - 1), ("int64", 2**63 - 1)])
def test_integers_that_no_float_holds(tmp_path, dtype, most):
    fine = np.array([[most, most - 2], [most - 4, most - 2], [most, 0], [1, 2]], dtype)
    full, coarse = written(tmp_path, fine)
    np.testing.assert_array_equal(full, fine)
    expected = [most - 2, (most + 3 + 2) // 4]
    assert coarse.ravel().tolist() == expected
    assert (
        halve(np.array([[-(2**63), -(2**63)], [-1, -2]]), [0, 1], np.empty((1, 1), int))
        == (-(2**63) * 2 - 3 + 2) // 4
    )  # floor(mean + 0.5)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
def test_floats_do_not_overflow(tmp_path, dtype):
    kind = np.dtype(dtype)
    most = np.finfo(kind).max
    fine = np.full((4, 4), most, kind)
    fine[2:] = 1.5 if kind.kind == "f" else 1.5 + 2j
    full, coarse = written(tmp_path, fine)
    np.testing.assert_array_equal(full, fine)
    np.testing.assert_array_equal(coarse, fine[::2, ::2])


@pytest.mark.parametrize("method", ["nearest", "mode"])
def test_labels_that_do_not_exist_do_not_appear(tmp_path, method):
    draw = np.random.default_rng(0)
    fine = draw.choice(np.array([0, 7, 1000], "uint16"), (6, 10))
    fine[:2, :2] = [[7, 1000], [1000, 0]]
    _, coarse = written(tmp_path, fine, method=method)
    assert set(coarse.ravel().tolist()) <= {0, 7, 1000}
    assert coarse[0, 0] == {"nearest": 7, "mode": 1000}[method]
    groups = fine.reshape(3, 2, 5, 2).transpose(0, 2, 1, 3).reshape(3, 5, 4)
    for at in np.ndindex(3, 5):
        counts = [(groups[at] == value).sum() for value in groups[at]]
        of_it = (groups[at] == coarse[at]).sum()
        assert coarse[at] == groups[at][0] if method == "nearest" else of_it == max(counts)
    assert multiscale(tmp_path / "a.zarr")["type"] == method
    with pytest.raises(FileExistsError, match="method"):
        written(tmp_path, fine)


def test_a_method_that_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"method='max'|method must be"):
        written(tmp_path, np.zeros((4, 4), "uint8"), method="max")


# --- plates, colours, further axes --------------------------------------------------------------


def plate_of(store: Path) -> tuple[list[str], list[str], list[str]]:
    """Names of rows and columns, and paths of wells."""
    attrs: Any = zarr.open_group(store, mode="r").attrs
    plate = attrs["ome"]["plate"]
    for well in plate["wells"]:
        row, column = well["path"].split("/")
        assert plate["rows"][well["rowIndex"]]["name"] == row
        assert plate["columns"][well["columnIndex"]]["name"] == column
    rows, columns = ([each["name"] for each in plate[key]] for key in ("rows", "columns"))
    return rows, columns, [well["path"] for well in plate["wells"]]


@pytest.mark.parametrize(
    ("wells", "rows", "columns"),
    [
        (["A1", "A2", "A10", "B2"], ["A", "B"], ["1", "2", "10"]),
        (["Z01", "AA01", "AF48"], ["Z", "AA", "AF"], ["01", "48"]),
        (["W0001", "W0002", "W0013"], ["W"], ["1", "2", "13"]),
        (["A01.a1", "A01.a2", "A01.b1", "P24.b2"], ["A", "B", "AF"], ["1", "2", "48"]),
    ],
)
def test_names_of_wells(tmp_path, wells, rows, columns):
    for i, well in enumerate(wells):
        write(tmp_path / "raw" / f"{well}_c0.tif", i, shape=(6, 8))
    ds = dataset(tmp_path / "raw", pattern=r"{well}_c{channel:d}.tif")
    store = tmp_path / "a.zarr"
    to_ome_zarr(ds, store, levels=1)
    found_rows, found_columns, paths = plate_of(store)
    assert (found_rows, found_columns) == (rows, columns)
    labels = [str(w) for w in np.atleast_1d(ds["well"].values)]
    for label, path in zip(labels, paths, strict=True):
        found = xr.open_zarr(store, group=f"{path}/0/0", consolidated=False).image
        np.testing.assert_array_equal(np.squeeze(found), pixels(wells.index(label), (6, 8)))


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        (["r01c02f01p01-ch1sk1fk1fl1", "r01c10f01p01-ch1sk1fk1fl1", "r02c02f01p01-ch1sk1fk1fl1"],
         ["A/2", "A/10", "B/2", "B/10"]),
        (["B - 2(fld 1 wv DAPI - DAPI)", "C - 11(fld 1 wv DAPI - DAPI)"], ["B/2", "C/11"]),
        (["Channel1-14-B-02", "Channel2-14-B-02", "Channel1-27-C-03", "Channel2-27-C-03"],
         ["B/2", "C/3"]),
    ],
)  # fmt: skip
def test_rows_and_columns_make_a_plate(tmp_path, names, paths):
    for i, name in enumerate(names):
        write(tmp_path / "raw" / f"{name}.tif", i, shape=(6, 8))
    store = tmp_path / "a.zarr"
    to_ome_zarr(dataset(tmp_path / "raw"), store, levels=1)
    assert plate_of(store)[2] == paths


def test_rows_and_columns_of_tiles_make_no_plate(tmp_path):
    for i, (row, col) in enumerate(itertools.product(range(2), range(2))):
        write(tmp_path / "raw" / f"a_r{row}_c{col}_t0.tif", i, shape=(6, 8))
    ds = dataset(tmp_path / "raw", pattern="a_r{row:d}_c{col:d}_t{t:d}.tif")
    to_ome_zarr(ds, tmp_path / "a.zarr")
    assert "plate" not in zarr.open_group(tmp_path / "a.zarr").attrs["ome"]


def test_colour_samples_are_red_green_and_blue(tmp_path):
    (tmp_path / "raw").mkdir()
    rgb = np.arange(2 * 6 * 8 * 3, dtype="uint8").reshape(2, 6, 8, 3)
    for t in range(2):
        tifffile.imwrite(tmp_path / "raw" / f"a_t{t}.tif", rgb[t], photometric="rgb")
    store = tmp_path / "a.zarr"
    to_ome_zarr(dataset(tmp_path / "raw", pattern="a_t{t:d}.tif"), store)
    channels = zarr.open_group(store).attrs["ome"]["omero"]["channels"]
    assert [(c["label"], c["color"]) for c in channels] == [
        ("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"),
    ]  # fmt: skip


@pytest.mark.parametrize("dim", ["sample", "channel_in_file", "time_in_file", "angle"])
def test_axes_that_ngff_has_no_place_for(tmp_path, dim):
    """One image each."""
    image = xr.DataArray(
        pixels(0, (2, 3, 2, 6, 8)), dims=("time", "channel", dim, "y", "x"), name="image"
    )
    ds = image.assign_coords(time=[0, 1], channel=["a", "b", "c"]).to_dataset()
    store = tmp_path / "a.zarr"
    to_ome_zarr(ds, store, verify=True)
    for i in range(2):
        found = xr.open_zarr(store, group=f"{i}/0", consolidated=False).image
        np.testing.assert_array_equal(found, image.isel({dim: i}))


def test_colour_samples_beside_channels(tmp_path):
    (tmp_path / "raw").mkdir()
    rgb = np.arange(2 * 6 * 8 * 3, dtype="uint8").reshape(2, 6, 8, 3)
    for c in range(2):
        tifffile.imwrite(tmp_path / "raw" / f"a_c{c}.tif", rgb[c], photometric="rgb")
    ds = dataset(tmp_path / "raw", pattern="a_c{channel:d}.tif")
    summary = to_ome_zarr(ds, tmp_path / "a.zarr", verify=True)
    assert not summary.failed
    for sample in range(3):
        found = zarr.open_array(tmp_path / f"a.zarr/{sample}/0/image")[...]
        np.testing.assert_array_equal(found, rgb[..., sample])

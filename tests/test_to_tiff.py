"""New TIFFs read back as the Dataset that was written; tifffile says what is in them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr
from conftest import write_acquisition
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xarray_tiffstack.cli import main


def opened(folder: Path, pattern: str | None = None, **options: Any) -> xr.Dataset:
    return xr.open_dataset(folder, engine="tiffstack", pattern=pattern, **options)


def same(found: xr.Dataset, ds: xr.Dataset) -> None:
    """Compare pixels by their labels, the labels, and the voxel size."""
    sizes = {d: n for d, n in ds.image.sizes.items() if n > 1 or d in found.image.dims}
    assert dict(found.image.sizes) == sizes
    assert found.image.dtype == ds.image.dtype
    lead = {d for d in found.image.dims if d not in ("z", "y", "x", "sample")}
    for dim in lead:
        assert sorted(found[dim].values.tolist()) == sorted(ds[dim].values.tolist())
    there = ds.sel({dim: found[dim].values for dim in lead}).squeeze(
        [d for d in ds.image.dims if d not in found.image.dims]
    )
    pixels = there.image.transpose(*found.image.dims)
    if "present" in ds.coords:
        present = there.present.broadcast_like(pixels)
        pixels = pixels.where(present, 0).astype(pixels.dtype)
    np.testing.assert_array_equal(found.image.values, pixels.values)
    for axis in ("z", "y", "x"):
        if axis in ds.coords and ds.sizes[axis] > 1:
            np.testing.assert_allclose(np.diff(found[axis]), np.diff(ds[axis]), rtol=1e-6)
            assert found[axis].attrs["units"] == "micrometer"


# --- names that give the labels back --------------------------------------------------------------

TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=("C", "Z")),
    min_size=1, max_size=8,
).filter(lambda text: text == text.strip())  # fmt: skip
LABELS = st.one_of(
    st.lists(st.integers(-50, 20000), min_size=1, max_size=3, unique=True),
    st.lists(st.floats(-100, 100).map(lambda v: round(v, 3) + 0.0), min_size=1, max_size=3,
             unique=True),
    st.lists(st.from_regex(r"[A-Za-z]{1,6}", fullmatch=True), min_size=1, max_size=3,
             unique_by=str.casefold),
    st.lists(TEXT, min_size=1, max_size=3, unique_by=lambda text: text.casefold()),
)  # fmt: skip


@st.composite
def datasets(draw: st.DrawFn) -> xr.Dataset:
    outer = draw(st.lists(st.sampled_from(["channel", "stack", "well_site", "angle"]), unique=True,
                          max_size=3))  # fmt: skip
    labels = {dim: draw(LABELS) for dim in outer}
    dtype = draw(st.sampled_from(["uint8", "uint16", "float32"]))
    sizes = {dim: len(each) for dim, each in labels.items()}
    sizes |= {
        "z": draw(st.integers(1, 4)),
        "y": draw(st.integers(2, 5)),
        "x": draw(st.integers(2, 5)),
    }
    pixels = np.arange(1, np.prod(list(sizes.values())) + 1).reshape(list(sizes.values()))
    coords: dict[str, Any] = {
        dim: (dim, np.array(each, object if isinstance(each[0], str) else None))
        for dim, each in labels.items()
    }
    for axis in ("z", "y", "x"):
        step = draw(st.sampled_from([0.05, 0.104, 0.3, 1.0, 2.5]))
        coords[axis] = (axis, np.arange(sizes[axis]) * step, {"units": "micrometer"})
    ds = xr.Dataset({"image": (list(sizes), pixels.astype(dtype))}, coords)
    if outer and draw(st.booleans()):
        present = np.ones([sizes[dim] for dim in outer], bool)
        if present.size > 4:
            present.flat[draw(st.integers(1, present.size - 2))] = False
        if all(
            present.any(tuple(set(range(present.ndim)) - {i})).all() for i in range(present.ndim)
        ):
            ds = ds.assign_coords(present=(outer, present))
    return ds.transpose(*draw(st.permutations(list(sizes))))


@settings(deadline=None, max_examples=150)
@given(datasets(), st.sampled_from(["imagej", "ome"]))
def test_names_and_pixels_read_back(ds: xr.Dataset, kind: str) -> None:
    with TemporaryDirectory() as folder:
        written = ds.tiffstack.to_tiff(folder, kind=kind)
        found = opened(Path(folder), written.pattern)
        slots = found.sizes.keys() - {"z", "y", "x"}
        assert written.written + written.absent == np.prod([found.sizes[d] for d in slots])
        same(found, ds)
        found.close()


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_channel_names_with_signs_that_xml_uses_read_back(tmp_path: Path, kind: str) -> None:
    ds = labelled(channel=2, z=2, y=2, x=2)
    ds = ds.assign_coords(channel=['"', "<a & 'b'>"])
    written = ds.tiffstack.to_tiff(tmp_path, kind=kind)
    with opened(tmp_path, written.pattern) as found:
        assert found.channel.values.tolist() == ds.channel.values.tolist()
        same(found, ds)


def labelled(**sizes: int) -> xr.Dataset:
    """Pixels that differ, with labels and scale."""
    pixels = np.arange(1, np.prod(list(sizes.values())) + 1).reshape(list(sizes.values()))
    coords: dict[str, Any] = {
        "z": ("z", np.arange(sizes["z"]) * 0.3, {"units": "micrometer"}),
        "y": ("y", np.arange(sizes["y"]) * 0.104, {"units": "micrometer"}),
        "x": ("x", np.arange(sizes["x"]) * 0.104, {"units": "micrometer"}),
        "channel": ("channel", ["488nm_CamA", "560nm_CamB"][: sizes.get("channel", 0)]),
        "time": ("time", np.arange(sizes.get("time", 0)) * 1500, {"units": "millisecond"}),
    }
    coords = {name: each for name, each in coords.items() if name in sizes}
    return xr.Dataset({"image": (list(sizes), pixels.astype("uint16"))}, coords)


# --- what is in the files -------------------------------------------------------------------------


def test_what_imagej_is_told(tmp_path: Path) -> None:
    ds = labelled(channel=2, time=3, z=4, y=6, x=7)
    written = ds.tiffstack.to_tiff(tmp_path / "out")
    assert written.pattern == "channel-{channel:s}/time{time:04d}.tif"
    with tifffile.TiffFile(tmp_path / "out" / "channel-560nm_CamB" / "time1500.tif") as tif:
        said = tif.imagej_metadata
        assert tif.series[0].axes == "ZYX"
        np.testing.assert_array_equal(tif.asarray(), ds.image[1, 1])
        wide, high = (tif.pages[0].tags[code].value for code in (282, 283))
    assert said["spacing"] == 0.3
    assert said["unit"] == "um"
    assert wide[1] / wide[0] == pytest.approx(0.104)
    assert high[1] / high[0] == pytest.approx(0.104)
    assert said["Info"].splitlines() == ["channel: 560nm_CamB", "time: 1500 millisecond"]
    assert said["Labels"][1] == "z=0.3"


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_hyperstacks(tmp_path: Path, kind: Any) -> None:
    ds = labelled(channel=2, time=3, z=4, y=6, x=7)
    written = ds.tiffstack.to_tiff(tmp_path / "out", kind=kind, inside=("time", "channel", "z"))
    assert (written.written, written.pattern) == (1, "image.tif")
    path = tmp_path / "out" / "image.tif"
    with tifffile.TiffFile(path) as tif:
        assert tif.series[0].axes == "TZCYX"
        expected = ds.image.transpose("time", "z", "channel", "y", "x")
        np.testing.assert_array_equal(tif.asarray(), expected)
        if kind == "imagej":
            assert tif.imagej_metadata["finterval"] == 1.5
            assert tif.imagej_metadata["Labels"][:2] == [
                "time=0, z=0.0, channel=488nm_CamA", "time=0, z=0.0, channel=560nm_CamB"
            ]  # fmt: skip
        else:
            assert 'Name="560nm_CamB"' in tif.ome_metadata
            assert 'PhysicalSizeZ="0.3"' in tif.ome_metadata
            assert 'TimeIncrement="1500.0"' in tif.ome_metadata
    found = opened(tmp_path / "out", written.pattern)
    np.testing.assert_array_equal(found.image.transpose(*ds.image.dims), ds.image)
    if kind == "ome":
        assert found.channel.values.tolist() == ds.channel.values.tolist()


def test_ome_is_valid(tmp_path: Path) -> None:
    ome_types = pytest.importorskip("ome_types")
    labelled(channel=2, z=4, y=6, x=7).tiffstack.to_tiff(tmp_path, kind="ome")
    (path,) = tmp_path.glob("channel-488*/image.tif")
    image = ome_types.from_tiff(path).images[0]
    assert image.pixels.physical_size_z == 0.3
    assert image.pixels.channels[0].name == "488nm_CamA"


def test_colours_and_single_planes(tmp_path: Path) -> None:
    pixels = np.arange(2 * 6 * 7 * 3).reshape(2, 6, 7, 3).astype("uint8")
    ds = xr.Dataset({"image": (("stack", "y", "x", "sample"), pixels)}, {"stack": [3, 12]})
    written = ds.tiffstack.to_tiff(tmp_path / "rgb")
    same(opened(tmp_path / "rgb", written.pattern), ds)
    plane = labelled(channel=2, z=4, y=6, x=7).isel(z=slice(1, 2))
    written = plane.tiffstack.to_tiff(tmp_path / "plane")
    assert written.pattern == "channel-{channel:s}/z{z:f}.tif"
    found = opened(tmp_path / "plane", written.pattern)
    assert found.z.item() == 0.3
    np.testing.assert_array_equal(found.image, plane.image.squeeze("z"))
    image = labelled(z=4, y=6, x=7).image
    assert image.tiffstack.to_tiff(tmp_path / "array").written == 1


def test_a_pattern_of_ones_own(tmp_path: Path) -> None:
    ds = labelled(channel=2, time=3, z=4, y=6, x=7)
    ds = ds.assign_coords(power=("channel", [48, 56]), mouse="m12")
    template = "{mouse}_{power:d}/t{time:05d}_{channel}.tif"
    written = ds.tiffstack.to_tiff(tmp_path / "out", template)
    assert (tmp_path / "out" / "m12_48" / "t01500_488nm_CamA.tif").is_file()
    found = opened(tmp_path / "out", written.pattern)
    np.testing.assert_array_equal(found.image.sel(time=1500, channel="560nm_CamB"), ds.image[1, 1])
    for wrong, said in (
        ("t{time:05d}.tif", r"does not say channel: put \{channel\} into it"),
        ("{channel}_{time}_{angle}.tif", "names angle"),
        ("{channel:l}_{time}.tif", "6 names cannot be written"),
        ("{channel}_{time}.png.tif[.x]", None),
        ("{time}.{channel}/.tif", "would not be read"),
    ):
        if said is not None:
            with pytest.raises(ValueError, match=said):
                ds.tiffstack.to_tiff(tmp_path / "wrong", wrong)
    assert not (tmp_path / "wrong").exists()
    twins = ds.isel(time=0, drop=True).assign_coords(channel=["a", "A"])
    with pytest.raises(ValueError, match="to several files"):
        twins.tiffstack.to_tiff(tmp_path / "wrong")


# --- from files, and from a store -----------------------------------------------------------------


def test_of_files_and_of_a_store_opened_again(tmp_path: Path) -> None:
    raw = write_acquisition(tmp_path / "raw")
    next(raw.glob("*ch1*stack0003*")).unlink()
    ds = opened(raw, voxel_size={"z": 0.3, "y": 0.1, "x": 0.1})
    written = ds.tiffstack.to_tiff(tmp_path / "out")
    assert (written.written, written.absent) == (14, 1)
    found = opened(tmp_path / "out", written.pattern)
    same(found, ds)
    assert not found.present.sel(channel=560, stack=3)
    store = tmp_path / "a.ome.zarr"
    ds.tiffstack.to_ome_zarr(store)
    with xr.open_datatree(store, engine="zarr") as tree:
        again = tree["0"].to_dataset()
        written = again.tiffstack.to_tiff(tmp_path / "again", kind="ome")
        same(opened(tmp_path / "again", written.pattern), again)


def test_a_file_is_written_without_all_of_it_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    import dask.array as da

    pixels = da.zeros((400, 512, 512), dtype="uint16", chunks=(10, 512, 512))  # 210 MB
    ds = xr.Dataset({"image": (("z", "y", "x"), pixels)})
    tracemalloc.start()
    try:
        ds.tiffstack.to_tiff(tmp_path / "out", workers=1)
        assert tracemalloc.get_traced_memory()[1] < 160e6
    finally:
        tracemalloc.stop()
    assert (tmp_path / "out" / "image.tif").stat().st_size > 200e6


# --- refused, skipped, killed ---------------------------------------------------------------------


def test_nothing_is_written_over_anything(tmp_path: Path) -> None:
    ds = labelled(time=7, z=4, y=6, x=7)
    out = tmp_path / "out"
    out.mkdir()
    (out / "time1500.tif").write_text("mine")
    with pytest.raises(FileExistsError, match=r"1 file of these names.*\n.*time1500.*\n.*skip"):
        ds.tiffstack.to_tiff(out)
    assert [path.name for path in out.iterdir()] == ["time1500.tif"]
    written = ds.tiffstack.to_tiff(out, existing="skip")
    assert (written.written, written.there) == (6, 1)
    assert (out / "time1500.tif").read_text() == "mine"
    # What a process leaves that is killed between the two names of a file.
    other = next(path for path in out.iterdir() if path.name != "time1500.tif")
    os.link(other, out / f".{other.name}.tiffstack-partial")
    assert ds.tiffstack.to_tiff(out, existing="skip").there == 7
    assert len(list(out.iterdir())) == 7
    with pytest.raises(FileExistsError, match=r"7 files(.*\n){6}.*and 2 more"):
        ds.tiffstack.to_tiff(out)


def test_what_cannot_be_written_is_refused_before(tmp_path: Path) -> None:
    ds = labelled(time=2, z=4, y=6, x=7)
    out = tmp_path / "out"
    for change, options, said in (
        (lambda ds: ds.astype("float64"), {}, 'kind="ome"'),
        (lambda ds: ds.astype("int64"), {"kind": "ome"}, "holds uint8.*not int64"),
        (lambda ds: ds, {"kind": "png"}, "kind must be"),
        (lambda ds: ds, {"inside": ("angle",)}, "inside a file can be"),
        (lambda ds: ds, {"workers": 0}, "workers=0"),
        (lambda ds: ds.isel(y=0), {}, "has y and x"),
        (lambda ds: ds.rename(image="pixels"), {}, "writes the variable 'image'"),
    ):
        with pytest.raises(ValueError, match=said):
            change(ds).tiffstack.to_tiff(out, **options)
    assert not out.exists()
    raw = write_acquisition(tmp_path / "raw", stacks=1)
    store = tmp_path / "a.ome.zarr"
    source = opened(raw)
    source.tiffstack.to_ome_zarr(store)
    for place in (raw, raw / "new", store, store / "new"):
        with pytest.raises(ValueError, match=r"write .*elsewhere"):
            source.tiffstack.to_tiff(place)
    assert len(list(raw.iterdir())) == 3


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, store = write_acquisition(tmp_path / "raw"), tmp_path / "a.ome.zarr"
    opened(raw).tiffstack.to_ome_zarr(store)
    names = ["--names", "ch{channel:d}_t{stack:03d}.tif", "--quiet"]
    for source in (raw, store):
        out = tmp_path / f"of {source.name}"
        assert main(["export", str(source), str(out), "--kind", "ome", *names]) == 0
        same(opened(out, names[1]), opened(raw).drop_vars("present"))
    assert "15 files written" in capsys.readouterr().out
    assert main(["export", str(raw), str(out), *names]) == 1
    assert "--existing" in capsys.readouterr().err
    assert main(["export", str(raw), str(tmp_path / "h"), "--inside", "z,stack", "--quiet"]) == 0
    assert len(list((tmp_path / "h").iterdir())) == 3


KILLED = """
import sys, numpy as np, xarray as xr, xarray_tiffstack
import dask.array as da
shape, chunks = (24, 20, 200, 200), (1, 20, 200, 200)
pixels = da.random.default_rng(0).integers(0, 99, shape, "uint16", chunks=chunks)
ds = xr.Dataset({"image": (("time", "z", "y", "x"), pixels)})
print("begun", flush=True)
ds.tiffstack.to_tiff(sys.argv[1], existing="skip", progress=False)
"""


def test_killed_and_called_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(out)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            seen = set(out.glob("*.tif")) if out.exists() else set()
            while process.poll() is None and len(set(out.glob("*.tif")) - seen) < 3:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
    subprocess.run([sys.executable, "-c", KILLED, str(out)], check=True, capture_output=True)
    paths = sorted(out.glob("*.tif"))
    assert len(paths) == 24
    assert all(tifffile.imread(path).shape == (20, 200, 200) for path in paths)
    found = opened(out, "time{time:02d}.tif").image
    import dask.array as da

    pixels = da.random.default_rng(0).integers(
        0, 99, (24, 20, 200, 200), "uint16", chunks=(1, 20, 200, 200)
    )
    np.testing.assert_array_equal(found.values, pixels.compute())


# --- what is not read back ------------------------------------------------------------------------


@st.composite
def laden(draw: st.DrawFn) -> tuple[xr.Dataset, list[str]]:
    """A Dataset with coordinates of every kind, and what is inside a file."""
    ds = draw(datasets())
    if "channel" not in ds.dims:
        ds = ds.expand_dims(channel=draw(st.sampled_from([["a", "b"], [488, 560]])))
    step = draw(st.sampled_from([1500, 0.5]))
    times = np.arange(3) * step + draw(st.sampled_from([0, 0, 7]))
    times[2] += draw(st.sampled_from([0, 0, 40]))
    unit = draw(st.sampled_from(["millisecond", "second", None]))
    attrs = {"units": unit} if unit else {}
    ds = ds.expand_dims(time=3).assign_coords(time=("time", times, attrs))
    axis = draw(st.sampled_from(["z", "y", "x"]))
    change = draw(st.sampled_from(["begin", "uneven", "unit", "drop", "nothing"]))
    values, units = ds[axis].values.copy(), {"units": "micrometer"}
    if change == "begin":
        values += 12.5
    elif change == "uneven":
        values[-1:] += 1
    elif change == "unit":
        units = {"units": "pixel"}
    ds = ds.assign_coords({axis: (axis, values, units)})
    ds = ds.drop_vars(axis) if change == "drop" else ds
    for i, dims in enumerate(draw(st.lists(st.sets(st.sampled_from(list(ds.dims)), max_size=2),
                                           max_size=4))):  # fmt: skip
        shape = [ds.sizes[d] for d in dims]
        data = np.arange(np.prod(shape, dtype=int)).reshape(shape) + 5
        ds = ds.assign_coords({f"extra{i}": (tuple(dims), data)})
    if draw(st.booleans()):
        missing = np.ones([ds.sizes["time"], ds.sizes["channel"]], bool)
        missing[draw(st.sampled_from([(1, 0), (2, slice(None)), (slice(None), 0)]))] = False
        ds = ds.assign_coords(present=(("time", "channel"), missing))
    inside = draw(st.lists(st.sampled_from(["z", "time", "channel"]), unique=True))
    return ds, inside


def is_back(found: xr.Dataset, ds: xr.Dataset, name: str) -> bool:
    """Whether a coordinate was read as it was, its labels in any order."""
    if name not in found.coords:
        return False
    here, there = found[name], ds[name]
    if name == "present":
        there = there.squeeze([d for d in there.dims if d not in found.dims])
        there = there.sel({d: found[d].values for d in there.dims if d in here.dims})
        here = here.isel({d: 0 for d in here.dims if d not in there.dims})
        return bool((here.broadcast_like(there).transpose(*there.dims) == there).all())
    if here.dtype.kind == there.dtype.kind == "O" or there.dtype.kind in "OU":
        return set(map(str, np.ravel(here.values))) == set(map(str, np.ravel(there.values)))
    factor = 1000.0 if here.attrs.get("units") == "millisecond" and there.attrs.get(
        "units") == "second" else 1.0  # fmt: skip
    if here.size != there.size:
        return False
    a, b = (np.sort(np.ravel(each.values).astype(float)) for each in (here, there))
    return bool(np.allclose(a, b * factor, rtol=1e-5, atol=1e-9))


@settings(deadline=None, max_examples=40)
@given(laden(), st.sampled_from(["imagej", "ome"]))
def test_every_coordinate_is_read_back_or_listed(
    drawn: tuple[xr.Dataset, list[str]], kind: Any
) -> None:
    ds, inside = drawn
    with TemporaryDirectory() as folder:
        written = ds.tiffstack.to_tiff(folder, kind=kind, inside=inside)
        assume(written.written)
        listed = {line.partition(":")[0] for line in written.lost}
        assert listed <= {*map(str, ds.coords)}
        found = opened(Path(folder), written.pattern)
        for name in map(str, ds.coords):
            assert name in listed or is_back(found, ds, name), (name, written.lost)
        found.close()


def test_what_is_read_back_is_not_listed(tmp_path: Path) -> None:
    ds = labelled(channel=2, time=3, z=4, y=6, x=7)
    assert ds.tiffstack.to_tiff(tmp_path / "plain").lost == ()
    inside = ("time", "z", "channel")
    assert ds.tiffstack.to_tiff(tmp_path / "ome", kind="ome", inside=inside).lost == ()
    (line,) = ds.tiffstack.to_tiff(tmp_path / "imagej", inside=inside).lost
    assert line == "channel: planes say it as text alone"


def test_what_is_lost_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ds = labelled(channel=2, time=3, z=4, y=6, x=7)
    ds = ds.assign_coords(z=ds.z + 5, stage=("time", [3, 4, 5]), focus=("z", [1, 2, 3, 4]))
    ds["mask"] = ds.image > 5
    ds["channel"].attrs["colours"] = ["red", "green"]
    ds = ds.assign_attrs(mouse="m12")
    ds["image"].attrs["gain"] = 2
    done = ds.tiffstack.to_tiff(tmp_path / "out")
    assert {line.partition(":")[0] for line in done.lost} == {
        "z", "stage", "focus", "channel", "mask", "the image", "the Dataset"
    }  # fmt: skip
    assert "z: it begins at 5" in str(done)
    assert "and 2 more" in str(done)
    named = ds.tiffstack.to_tiff(tmp_path / "named", "{channel}_t{time:d}_s{stage:d}.tif")
    assert not any(line.startswith("stage") for line in named.lost)
    write_acquisition(tmp_path / "raw")
    assert main(["export", str(tmp_path / "raw"), str(tmp_path / "new"), "--quiet"]) == 0
    assert "not read back from the files" in capsys.readouterr().out


# --- what others read -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # another package's
@pytest.mark.parametrize(
    ("kind", "reader"),
    [("ome", "bioio_ome_tiff"), ("ome", "bioio_tifffile"), ("imagej", "bioio_tifffile")],
)
def test_bioio_reads_pixels_scale_and_names(tmp_path: Path, kind: Any, reader: str) -> None:
    bioio = pytest.importorskip(reader)
    ds = labelled(channel=2, time=3, z=4, y=6, x=7)
    ds.tiffstack.to_tiff(tmp_path / "all", kind=kind, inside=("time", "z", "channel"))
    ds.tiffstack.to_tiff(tmp_path / "each", kind=kind)
    dims = {"T": "time", "C": "channel", "Z": "z", "Y": "y", "X": "x"}
    one = ds.isel(channel=[1], time=[1])
    path = tmp_path / "each" / "channel-560nm_CamB" / "time1500.tif"
    for part, file in ((ds, tmp_path / "all" / "image.tif"), (one, path)):
        found = bioio.Reader(file)
        pixels = found.xarray_data.rename({d: dims[d] for d in found.xarray_data.dims})
        expected = part.image.squeeze([d for d in part.image.dims if d not in pixels.dims])
        np.testing.assert_array_equal(pixels, expected.transpose(*pixels.dims))
        size = found.physical_pixel_sizes
        if reader == "bioio_ome_tiff":
            assert found.channel_names == part.channel.values.tolist()
        if (kind, reader) != ("ome", "bioio_tifffile"):  # which knows no OME-XML
            assert pytest.approx((0.3, 0.104, 0.104)) == (size.Z, size.Y, size.X)


@pytest.mark.filterwarnings("ignore")  # another package's
@pytest.mark.parametrize(
    ("times", "dims", "unit", "said"),
    [
        ([0, 1500, 3000], "time", "millisecond", (1.5, 3.0)),
        ([0.0, 2.0, 5.0], "time", "second", (2.5, 5.0)),  # not even: the mean, and the last
        ([[0, 1500, 3000], [12, 1512, 3012]], ("channel", "time"), "ms", (1.5, 3.0)),
        ([500, 2000, 3500], "time", "millisecond", None),  # counts from before the first frame
        ([0.0, 1.5, np.nan], "time", "second", None),
        ([0, 1, 2], "time", "", None),
    ],
)
def test_bioio_reads_when_frames_were_taken(
    tmp_path: Path, times: Any, dims: Any, unit: str, said: tuple[float, float] | None
) -> None:
    bioio = pytest.importorskip("bioio_ome_tiff")
    ds = labelled(channel=2, time=3, z=4, y=6, x=7)
    name = "time" if dims == "time" else "t"
    ds = ds.drop_vars("time").rename(time=name)
    dims = [name if dim == "time" else dim for dim in ([dims] if isinstance(dims, str) else dims)]
    ds = ds.assign_coords(time=(dims, times, {"units": unit}))
    ds.tiffstack.to_tiff(tmp_path, kind="ome", inside=(name, "z", "channel"))
    found = bioio.Reader(tmp_path / "image.tif")
    got = found.standard_metadata.timelapse_interval, found.standard_metadata.total_time_duration
    assert got == (tuple(timedelta(seconds=n) for n in said) if said else (None, None))
    if said:  # of each plane, in the order of the planes
        planes = found.ome_metadata.images[0].pixels.planes
        ms = {(p.the_t, p.the_c): p.delta_t for p in planes}
        expected = ds.time.broadcast_like(ds.image[..., 0, 0]).isel(z=0).transpose(name, "channel")
        expected = expected * (1000 if unit == "second" else 1)
        assert ms == {(t, c): expected.values[t, c] for t in range(3) for c in range(2)}
        assert len(planes) == 24

"""Bad input: one clear error, which counts, names the first five, and says what fixes it."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import pixels, reference_name, write

import xarray_tiffstack


def opened(source: object, **options: object) -> xr.Dataset:
    return xr.open_dataset(source, engine="tiffstack", **options)  # type: ignore[arg-type]


def test_absent_or_empty(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: .*nowhere"):
        opened(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "._hidden.tif").touch()
    for source in (tmp_path, tmp_path / "*.tif", []):
        with pytest.raises(FileNotFoundError, match="no TIFF in"):
            opened(source)


def test_no_name_fits(acquisition: Path) -> None:
    with pytest.raises(ValueError, match="fits none of 15 TIFF names") as caught:
        opened(acquisition, pattern="ex6-2_CamA_{t:d}.tif")
    assert "ex6-2_CamA_ch0" in str(caught.value)
    assert "^" in str(caught.value)


def test_unknown_convention(acquisition: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)aolsm.*aollsm"):
        opened(acquisition, pattern="aolsm")


@pytest.mark.parametrize("template", ["{t:d", "{t:q}.tif", "{t}_{t}.tif", "a[b{c}.tif", "(?P<t>["])
def test_invalid_template(acquisition: Path, template: str) -> None:
    with pytest.raises(ValueError, match=r"\{token|regular expression|convention"):
        opened(acquisition, pattern=template)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("missing", "skip"), ("duplicates", True), ("unmatched", "drop"), ("voxel_size", "1um")],
)
def test_wrong_value(acquisition: Path, keyword: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{keyword} must be .*not {value!r}"):
        opened(acquisition, **{keyword: value})


def test_fill_value_that_the_pixels_cannot_hold(acquisition: Path) -> None:
    for value in (np.nan, -1, 0.5, 70000, "7", None):
        with pytest.raises(ValueError, match=f"a value that uint16 can hold, not {value!r}"):
            opened(acquisition, fill_value=value)


def test_unmatched_names(acquisition: Path) -> None:
    for i in range(7):
        write(acquisition / f"snapshot {i}.tif", 0)
    with pytest.warns(UserWarning, match=r"7 of 22 TIFF names do not fit") as caught:
        ds = opened(acquisition)
    message = str(caught[0].message)
    assert message.count("snapshot") >= 5
    assert "... and 2 more" in message
    assert 'unmatched="ignore"' in message
    assert caught[0].filename == __file__
    assert ds.tiffstack.report().unmatched == [f"snapshot {i}.tif" for i in range(7)]
    assert ds.image.sizes["stack"] == 5
    assert opened(acquisition, unmatched="ignore").tiffstack.report().unmatched
    with pytest.raises(ValueError, match="7 of 22"):
        opened(acquisition, unmatched="raise")


def test_two_files_for_one_slot(acquisition: Path) -> None:
    name = reference_name(1, 2)
    again = name.replace("msecAbs", "9msecAbs")
    write(acquisition / again, 14)
    with pytest.raises(
        ValueError, match=r'(?s)1 duplicate: .*channel=560, stack=2.*duplicates="first"'
    ):
        opened(acquisition)
    ds = opened(acquisition, duplicates="last")
    assert ds.tiffstack.report().duplicates == sorted([name, again])[:1]


def test_a_pattern_for_a_table(acquisition: Path) -> None:
    table = xarray_tiffstack.scan(acquisition)
    with pytest.raises(ValueError, match="drop it"):
        opened(table, pattern="aollsm")
    with pytest.raises(ValueError, match="no column 'path'"):
        opened(table.drop(columns="path"))
    with pytest.raises(FileNotFoundError, match="no rows"):
        opened(table.iloc[:0])
    assert isinstance(table, pd.DataFrame)


def test_files_of_another_shape_or_dtype(acquisition: Path) -> None:
    odd = write(acquisition / reference_name(1, 2), 0, shape=(4, 6, 9))
    ds = opened(acquisition)
    with pytest.raises(ValueError, match=rf"(?s){odd.name}.*9.*8"):
        ds.image.sel(channel=560, stack=2).compute()
    np.testing.assert_array_equal(ds.image.sel(channel=560, stack=1), pixels(6))
    assert ds.tiffstack.report().other_size[0].startswith(f"{odd.name}: ")


@pytest.mark.parametrize("kind", ["truncated", "text", "directory gone"])
def test_a_broken_file_is_named_when_read(acquisition: Path, kind: str) -> None:
    broken = acquisition / reference_name(1, 2)
    match kind:
        case "truncated":
            os.truncate(broken, broken.stat().st_size - 100)
        case "text":
            broken.write_text("Access denied\n" * 50)
        case "directory gone":
            ds = opened(acquisition)
            broken.unlink()
    if kind != "directory gone":
        ds = opened(acquisition)
    with pytest.raises((OSError, ValueError), match=broken.name):
        ds.image.sel(channel=560, stack=2).compute()
    np.testing.assert_array_equal(ds.image.sel(channel=560, stack=3), pixels(8))


def test_a_broken_probe_is_passed_over_and_reported(acquisition: Path) -> None:
    os.truncate(acquisition / reference_name(0, 0), 20)
    ds = opened(acquisition)
    assert ds.image.sizes["stack"] == 5
    (found,) = ds.tiffstack.report().unreadable
    assert reference_name(0, 0) in found
    np.testing.assert_array_equal(ds.image.sel(channel=488, stack=1), pixels(1))


def test_no_readable_file(acquisition: Path) -> None:
    for path in acquisition.iterdir():
        os.truncate(path, 0)
    with (
        pytest.warns(UserWarning, match="15 of 15 files missing, because empty"),
        pytest.raises(OSError, match=r"(?s)none of 15 files can be read.*and 10 more"),
    ):
        opened(acquisition)


def test_an_empty_file_is_missing(acquisition: Path) -> None:
    path = acquisition / reference_name(1, 2)
    os.truncate(path, 0)
    with pytest.warns(UserWarning, match=rf"(?s)1 of 15 files missing, because empty.*{path.name}"):
        ds = opened(acquisition)
    assert not ds.present.sel(channel=560, stack=2)
    assert (ds.image.sel(channel=560, stack=2) == 0).all()
    report = ds.tiffstack.report()
    assert report.missing == [{"channel": 560, "stack": 2}]
    assert path.name in report.unreadable[0]
    with (
        pytest.warns(UserWarning, match="empty"),
        pytest.raises(ValueError, match="1 of 15 files missing"),
    ):
        opened(acquisition, missing="raise")


def test_paths_that_do_not_exist(acquisition: Path) -> None:
    paths = [*acquisition.iterdir(), acquisition / reference_name(0, 9)]
    for source in (paths, xarray_tiffstack.scan(paths)):
        with pytest.raises(FileNotFoundError, match=r"(?s)1 of 16 files do not exist:.*stack0009"):
            opened(source)


def test_links_and_what_is_no_file(acquisition: Path) -> None:
    (acquisition / "itself").symlink_to(acquisition / "itself")
    (acquisition / "parent").symlink_to(acquisition.parent)
    (acquisition / "again").symlink_to(acquisition)
    os.mkfifo(acquisition / "pipe.tif")
    ds = opened(acquisition)
    assert ds.sizes["stack"] == 5
    assert ds.tiffstack.report().aside == ["pipe.tif: not a regular file"]
    (acquisition / reference_name(0, 5)).symlink_to(acquisition / "gone.tif")
    with pytest.warns(UserWarning, match="1 of 16 files missing, because empty or gone"):
        ds = opened(acquisition)
    assert ds.present.sum() == 15


def test_what_there_is_instead_of_tiffs(tmp_path: Path) -> None:
    for name in ("a.tif.gz", "b.tif.gz", "notes.txt", "LICENSE"):
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=r"(?s)2 files ending in \.tif\.gz.*1 file ending"):
        opened(tmp_path)


def test_a_stream_is_not_a_source() -> None:
    with pytest.raises(TypeError, match=r"a source is a folder.*not BytesIO"):
        opened(io.BytesIO(b"II"))


def test_sibling_folders_with_the_same_names_are_samples(acquisition: Path) -> None:
    shutil.copytree(acquisition, acquisition / "again")
    with pytest.raises(ValueError, match=r"(?s)2 samples; open one.*group='again': 15 files"):
        opened(acquisition)
    with pytest.raises(ValueError, match="'other' is not one of them"):
        opened(acquisition, group="other")
    with pytest.raises(ValueError, match="one sample: drop group='again'"):
        opened(acquisition / "again", group="again")
    again = opened(acquisition, group="again")
    np.testing.assert_array_equal(again.image, opened(acquisition / "again").image)
    assert again.path.str.contains("/again/").all()


def test_processed_files_beside_raw_ones(acquisition: Path) -> None:
    name = reference_name(1, 2).removesuffix(".tif")
    write(acquisition / "Deskewed" / f"{name}_deskewed.tif", 0)
    ds = opened(acquisition)
    assert ds.image.sizes["stack"] == 5
    assert ds.tiffstack.report().aside == [
        f"Deskewed/{name}_deskewed.tif: processed version of a raw file"
    ]


def test_nothing_is_written_into_the_source(acquisition: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in [acquisition, *acquisition.rglob("*")]}
    ds = opened(acquisition)
    ds.tiffstack.report()
    ds.isel(stack=[0]).to_zarr(tmp_path / "store.zarr", zarr_format=2)
    assert {p: p.stat().st_mtime_ns for p in [acquisition, *acquisition.rglob("*")]} == before


def test_a_dataset_of_somebody_else() -> None:
    with pytest.raises(ValueError, match="no coordinate 'path'"):
        _ = xr.Dataset().tiffstack.files


def test_sources_that_are_none(acquisition: Path) -> None:
    for source in (None, 3, b"raw"):
        with pytest.raises(TypeError, match="a source is a folder"):
            opened(source)
    with pytest.raises(ValueError, match="ftp:// is not read: a URL begins with s3, gs, az"):
        opened("ftp://example.org/raw")
    with pytest.raises(ValueError, match="1 of 2 paths are folders"):
        opened([acquisition, acquisition / reference_name(0, 0)])


def test_a_regular_expression_without_names(acquisition: Path) -> None:
    with pytest.raises(ValueError, match="a regular expression has named groups"):
        opened(acquisition, pattern=r".*_ch(\d)_.*")


@pytest.mark.parametrize("token", ["image", "path", "present"])
def test_tokens_that_the_dataset_needs(acquisition: Path, token: str) -> None:
    with pytest.raises(ValueError, match=f"called {token}"):
        opened(acquisition, pattern=f"{{}}_ch{{{token}:d}}_{{}}_stack{{stack:d}}_{{}}")


def test_tables_made_by_hand(acquisition: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(acquisition)
    names = [Path(reference_name(0, stack)) for stack in range(3)]
    ds = opened(pd.DataFrame({"path": names, "t": [0, 1, 2]}))
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(ds.image.sel(t=2), pixels(2))
    with pytest.raises(ValueError, match=r"1 row of the file table without a path: \[1\]"):
        opened(pd.DataFrame({"path": ["a.tif", None], "t": [0, 1]}))
    with pytest.raises(ValueError, match=r"needs a name of its own; not \[0\]"):
        opened(pd.DataFrame({"path": ["a.tif"], 0: [0]}))
    twice = pd.DataFrame([["a.tif", 1, 2]], columns=["path", "t", "t"])
    with pytest.raises(ValueError, match=r"needs a name of its own; not \['t'\]"):
        opened(twice)


def test_a_folder_that_may_not_be_listed(acquisition: Path) -> None:
    locked = acquisition / "locked"
    locked.mkdir(mode=0)
    if os.access(locked, os.R_OK):
        pytest.skip("root may list every folder")
    with pytest.warns(UserWarning, match="1 folder cannot be listed.*\n  locked/"):
        ds = opened(acquisition)
    assert ds.image.sizes["stack"] == 5


@pytest.mark.parametrize("pages", ["y", "x", 3])
def test_pages_that_are_no_dimension(acquisition: Path, pages: object) -> None:
    with pytest.raises(ValueError, match="pages must be the name of a dimension"):
        opened(acquisition, pages=pages)


def test_an_empty_file_is_converted_as_missing(acquisition: Path, tmp_path: Path) -> None:
    os.truncate(acquisition / reference_name(1, 2), 0)
    with pytest.warns(UserWarning, match="1 of 15 files missing"):
        ds = opened(acquisition)
    store = tmp_path / "a.zarr"
    assert ds.tiffstack.to_ome_zarr(store, progress=False).missing == 1
    assert ds.tiffstack.verify(store, progress=False).ok
    with xr.open_datatree(store, engine="zarr") as tree:
        assert not tree["0"].present.sel(channel=560, stack=2)


def test_what_is_no_folder_of_tiffs_is_named(acquisition: Path, tmp_path: Path) -> None:
    store = tmp_path / "out.zarr"
    xr.open_dataset(acquisition, engine="tiffstack").to_zarr(store, zarr_format=2)
    with pytest.raises(
        FileNotFoundError, match=r"out\.zarr is a Zarr store, not TIFFs: xarray\.open"
    ):
        xr.open_dataset(store, engine="tiffstack")
    for name in ("repo", "snapshots", "manifests"):  # as icechunk calls them
        (tmp_path / "raw.icechunk" / name).mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"is an index of TIFFs.*open_index\('.*icechunk"):
        xr.open_dataset(tmp_path / "raw.icechunk", engine="tiffstack")

"""An index whose files were copied or uploaded: refused until their bytes were compared."""

from __future__ import annotations

import os
import shutil
import urllib.request
from typing import TYPE_CHECKING, Any

import cloud
import numpy as np
import pytest
import xarray as xr
import zarr
from conftest import SHAPE, pixels, write, write_acquisition
from packaging.version import Version

from xarray_tiffstack import check_index, open_index, renew_index
from xarray_tiffstack.cli import main
from xarray_tiffstack.index.samples import PIECE, PIECES, places

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

icechunk = pytest.importorskip("icechunk", reason="icechunk 2.3 needs Python 3.12")
if Version(icechunk.__version__) < Version("2.3"):
    pytest.skip(f"icechunk {icechunk.__version__} is older than 2.3", allow_module_level=True)


def opened(folder: Path) -> xr.Dataset:
    return xr.open_dataset(folder, engine="tiffstack")


def level(index: Any, source: Any = None, number: int = 0, **options: Any) -> xr.Dataset:
    tree = xr.open_datatree(open_index(index, source, **options), engine="zarr")
    return tree[str(number)].to_dataset().load()


def copied(folder: Path, target: Path) -> Path:
    """A copy with new times, as `cp -r` makes it."""
    shutil.copytree(folder, target, copy_function=shutil.copyfile)
    for path in target.iterdir():
        os.utime(path)  # where a file system copies times too
    return target


def commits(index: Path) -> int:
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(index)))
    return len([*repo.ancestry(branch="main")])


# --- on a disk ------------------------------------------------------------------------------


@pytest.mark.parametrize("hashes", [False, True])
def test_a_copy_is_taken_when_its_bytes_are_the_same(
    acquisition: Path, tmp_path: Path, hashes: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    ds, index = opened(acquisition).load(), tmp_path / "raw.icechunk"
    opened(acquisition).tiffstack.to_virtual(index, levels=2, hashes=hashes)
    copy = copied(acquisition, tmp_path / "elsewhere" / "raw copy é")
    with pytest.raises(ValueError, match=r"15 of 15 files changed(.*\n)*.*SOURCE INDEX --renew"):
        open_index(index, copy)
    assert main(["index", str(copy), str(index), "--renew"]) == 0
    said = capsys.readouterr().out
    assert "15 of 15 files had other times" in said
    assert ("SHA-256" if hashes else "8 samples of 4 KiB") in said
    shutil.rmtree(acquisition)
    for got in (level(index), level(index, copy)):
        xr.testing.assert_equal(got.transpose(*ds.image.dims), ds)
    assert level(index, number=1).sizes["x"] == SHAPE[2] // 2
    assert check_index(index) == []
    before = commits(index)
    assert "nothing was compared" in str(renew_index(index))
    assert commits(index) == before, "nothing to renew, and a commit"


def test_others_read_the_copy_without_being_told_where_it_is(
    acquisition: Path, tmp_path: Path
) -> None:
    opened(acquisition).tiffstack.to_virtual(index := tmp_path / "raw.icechunk")
    copy = copied(acquisition, tmp_path / "copy")
    shutil.rmtree(acquisition)
    renew_index(index, copy)
    storage, prefix = icechunk.local_filesystem_storage(str(index)), f"file://{copy}/"
    access = {prefix: icechunk.credentials.LocalFileSystemAccess}
    repo = icechunk.Repository.open(storage, authorize_virtual_chunk_access=access)
    got = zarr.open_array(repo.readonly_session("main").store, path="0/image", mode="r")
    np.testing.assert_array_equal(
        got[...], opened(copy).image.transpose("stack", "channel", "z", "y", "x")
    )
    write(sorted(copy.iterdir())[0], 99)
    with pytest.raises(icechunk.IcechunkError, match="has changed"):
        got[...]


def test_files_that_are_others_are_named_and_nothing_is_written(
    acquisition: Path, tmp_path: Path
) -> None:
    opened(acquisition).tiffstack.to_virtual(index := tmp_path / "raw.icechunk")
    copy = copied(acquisition, tmp_path / "copy")
    paths = sorted(copy.iterdir())
    write(paths[2], 77)  # another recording, of the same size
    paths[5].unlink()
    paths[9].write_bytes(paths[9].read_bytes()[:-1])
    before = commits(index)
    with pytest.raises(ValueError, match=r"3 of 15 files in .*copy are not those") as raised:
        renew_index(index, copy)
    said = str(raised.value)
    assert f"{paths[2].name} has other bytes" in said
    assert f"{paths[5].name} is not there" in said
    assert f"{paths[9].name} has " in said
    assert "Nothing was written" in said
    assert "overwrite=True" in said
    assert commits(index) == before
    xr.testing.assert_equal(
        level(index).transpose(*opened(acquisition).image.dims), opened(acquisition).load()
    )


def test_two_copies_that_swapped_names_are_found(acquisition: Path, tmp_path: Path) -> None:
    opened(acquisition).tiffstack.to_virtual(index := tmp_path / "raw.icechunk")
    copy = copied(acquisition, tmp_path / "copy")
    one, other = sorted(copy.iterdir())[:2]
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    with pytest.raises(ValueError, match="2 of 15 files"):
        renew_index(index, copy)


def test_what_samples_do_not_see_hashes_do(tmp_path: Path) -> None:
    shape = (4, 64, 128)
    for t in range(2):
        write(tmp_path / "raw" / f"cell_t{t}.tif", t, shape)
    size = (tmp_path / "raw" / "cell_t0.tif").stat().st_size
    seen = places(size)
    assert len(seen) == PIECES
    assert sum(stop - start for start, stop in seen) == PIECES * PIECE < size
    between = seen[0][1] + 1
    assert between < seen[1][0]
    ds = xr.open_dataset(tmp_path / "raw", engine="tiffstack", pattern="cell_t{t:d}.tif", pages="z")
    ds.tiffstack.to_virtual(tmp_path / "samples.icechunk")
    ds.tiffstack.to_virtual(tmp_path / "hashes.icechunk", hashes=True)
    copy = copied(tmp_path / "raw", tmp_path / "copy")
    data = bytearray((copy / "cell_t0.tif").read_bytes())
    data[between] ^= 1
    (copy / "cell_t0.tif").write_bytes(data)
    assert renew_index(tmp_path / "samples.icechunk", copy).renewed == 2  # as is documented
    with pytest.raises(ValueError, match=r"1 of 2 files.*\n.*cell_t0.tif has other bytes"):
        renew_index(tmp_path / "hashes.icechunk", copy)


def test_only_what_has_another_time_is_compared(acquisition: Path, tmp_path: Path) -> None:
    opened(acquisition).tiffstack.to_virtual(index := tmp_path / "raw.icechunk")
    os.utime(sorted(acquisition.iterdir())[3])
    assert renew_index(index).renewed == 1
    assert level(index).sizes["stack"] == 5


def test_renewing_needs_a_folder_and_an_index(acquisition: Path, tmp_path: Path) -> None:
    ds = opened(acquisition)
    ds.tiffstack.to_virtual(references := tmp_path / "raw.json")
    with pytest.raises(ValueError, match=r"not renewed.*overwrite=True"):
        renew_index(references)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        renew_index(tmp_path / "none.icechunk")
    names = [str(path) for path in sorted(acquisition.iterdir())[:2]]
    assert main(["index", *names, str(tmp_path / "raw.icechunk"), "--renew"]) == 1


def test_wells_and_copied_pixels_are_renewed_too(tmp_path: Path) -> None:
    for i, (well, t) in enumerate((w, t) for w in ("A01", "B02") for t in range(4)):
        order = ">" if i == 3 else "<"
        write(tmp_path / "raw" / f"scan_{well}_t{t}.tif", i, (6, 8), byteorder=order)
    ds = xr.open_dataset(tmp_path / "raw", engine="tiffstack", pattern="scan_{well}_t{t:d}.tif")
    index = tmp_path / "raw.icechunk"
    assert len(ds.tiffstack.to_virtual(index).copied) == 1
    copy = copied(tmp_path / "raw", tmp_path / "copy")
    shutil.rmtree(tmp_path / "raw")
    renew_index(index, copy)
    tree = xr.open_datatree(open_index(index), engine="zarr")
    for k, path in enumerate(("A/01/0", "B/02/0")):
        wanted = np.stack([pixels(4 * k + t, (6, 8)) for t in range(4)])
        np.testing.assert_array_equal(tree[f"{path}/0"].image, wanted)


# --- in a bucket ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """Address of an S3 server."""
    pytest.importorskip("obstore")
    with cloud.moto() as port:
        make = urllib.request.Request(f"http://127.0.0.1:{port}/lab", method="PUT")
        urllib.request.urlopen(make).close()
        yield f"http://127.0.0.1:{port}"


def put(options: dict[str, str], folder: Path, at: str) -> None:
    """Upload all files of a folder."""
    import obstore

    from xarray_tiffstack.storage import Access

    store, _ = Access(options).store("s3://lab/x")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            key = f"{at}/{path.relative_to(folder).as_posix()}"
            obstore.put(store, key, path.read_bytes())


@pytest.mark.parametrize("name", ["raw", "raw é 2"])
def test_index_and_folder_are_uploaded(
    tmp_path: Path, moto: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_acquisition(tmp_path / "day 1" / name)
    for path in sorted(folder.iterdir()):
        path.rename(path.with_name(path.name.replace("ex6-2", "ex6+2 é")))
    ds = opened(folder).load()
    opened(folder).tiffstack.to_virtual(tmp_path / "day 1" / "raw.icechunk", levels=2)
    options = {"key": "a", "secret": "b", "endpoint_url": moto}
    at = f"day 1 {len(name)}"
    put(options, tmp_path / "day 1", at)
    place = f"s3://lab/{at}"
    index, source = f"{place}/raw.icechunk", f"{place}/{name}"
    with pytest.raises(ValueError, match=r"15 of 15 files changed(.*\n)*.*--renew"):
        open_index(index, storage_options=options)
    given = ",".join(f"{key}={value}" for key, value in options.items())
    command = ["index", source, index, "--renew", "--storage-options", given]
    assert main(command) == 0
    assert "15 of 15 files had other times or ETags" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "day 1")
    got = level(index, storage_options=options)
    xr.testing.assert_equal(got.transpose(*ds.image.dims), ds)
    assert level(index, number=1, storage_options=options).sizes["x"] == SHAPE[2] // 2
    assert main([*command[:3], "--check", *command[4:]]) == 0

    # icechunk alone needs the keys only: where the files are is in the index.
    keys = {"access_key_id": "a", "secret_access_key": "b"}
    storage = icechunk.s3_storage(
        bucket="lab", prefix=f"{at}/raw.icechunk", endpoint_url=moto, allow_http=True,
        region="us-east-1", force_path_style=True, **keys,
    )  # fmt: skip
    access = icechunk.containers_credentials({f"{source}/": icechunk.s3_credentials(**keys)})
    repo = icechunk.Repository.open(storage, authorize_virtual_chunk_access=access)
    alone = zarr.open_array(repo.readonly_session("main").store, path="0/image", mode="r")[...]
    np.testing.assert_array_equal(alone, got.image)

    # One that is changed since is named, and is an error for whoever reads it.
    changed = write(tmp_path / "new" / folder.joinpath(sorted(ds.path.values.ravel())[0]).name, 99)
    put(options, changed.parent, f"{at}/{name}")
    (line,) = check_index(index, storage_options=options)
    assert changed.name in line
    assert "ETag" in line
    with pytest.raises(ValueError, match=r"1 of 15 files changed"):
        open_index(index, storage_options=options)
    with pytest.raises(icechunk.IcechunkError, match="has changed"):
        level(index, check=False, storage_options=options)
    with pytest.raises(ValueError, match=rf"1 of 15 files.*\n.*{changed.name[-20:]} has other"):
        renew_index(index, storage_options=options)


def test_an_index_here_of_files_there(tmp_path: Path, moto: str) -> None:
    folder = write_acquisition(tmp_path / "raw")
    ds = opened(folder).load()
    opened(folder).tiffstack.to_virtual(index := tmp_path / "raw.icechunk", hashes=True)
    options = {"key": "a", "secret": "b", "endpoint_url": moto}
    put(options, folder, "there/raw")
    found = renew_index(index, "s3://lab/there/raw", storage_options=options)
    assert (found.renewed, found.entire) == (15, True)
    shutil.rmtree(folder)
    got = level(index, storage_options=options)
    xr.testing.assert_equal(got.transpose(*ds.image.dims), ds)
    with pytest.raises(ValueError, match=r"memory://.*is in the memory of this process"):
        open_index(index, "memory://there/raw")
    with pytest.raises(ValueError, match=r"cannot write to s3://lab/é.*letters of English"):
        renew_index("s3://lab/é/raw.icechunk", storage_options=options)
    with pytest.raises(OSError, match="holds no index"):
        open_index("s3://lab/none.icechunk", "s3://lab/there/raw", storage_options=options)

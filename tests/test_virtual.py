"""References for VirtualiZarr: what it writes of them is what the files hold."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr
from conftest import SHAPE, pixels, write, write_acquisition
from packaging.version import Version

if TYPE_CHECKING:
    from pathlib import Path

icechunk = pytest.importorskip("icechunk", reason="icechunk 2.3 needs Python 3.12")
virtualizarr = pytest.importorskip("virtualizarr", reason="VirtualiZarr 2.8 needs Python 3.12")
if Version(virtualizarr.__version__) < Version("2.8"):
    pytest.skip(
        f"VirtualiZarr {virtualizarr.__version__} is older than 2.8", allow_module_level=True
    )


def opened(folder: Path, **options: Any) -> xr.Dataset:
    return xr.open_dataset(folder, engine="tiffstack", **options)


def through_icechunk(virtual: xr.Dataset, folder: Path, **options: Any) -> xr.Dataset:
    """What icechunk reads of what VirtualiZarr wrote."""
    prefix = f"file://{folder}/"
    config = icechunk.RepositoryConfig.default()
    local = icechunk.local_filesystem_store(str(folder))
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, local))
    access = {prefix: icechunk.credentials.LocalFileSystemAccess}
    place = icechunk.in_memory_storage()
    repo = icechunk.Repository.create(place, config, access)
    session = repo.writable_session("main")
    virtual.vz.to_icechunk(session.store, **options)
    session.commit("virtual")
    store = repo.readonly_session("main").store
    return xr.open_zarr(store, consolidated=False).load()


def through_kerchunk(virtual: xr.Dataset, references: Path) -> xr.Dataset:
    """What fsspec reads of what VirtualiZarr wrote."""
    virtual.vz.to_kerchunk(str(references), format="json", zarr_format=3)
    fs = fsspec.filesystem("reference", fo=str(references), remote_protocol="file")
    store = zarr.storage.FsspecStore.from_mapper(fs.get_mapper(""), read_only=True)
    return xr.open_zarr(store, consolidated=False).load()


@pytest.mark.filterwarnings("ignore:The data type:zarr.errors.UnstableSpecificationWarning")
def test_it_writes_what_the_files_hold(tmp_path: Path) -> None:
    folder = write_acquisition(tmp_path / "raw é 2")
    next(iter(folder.glob("*ch1*stack0002*"))).unlink()
    ds = opened(folder)
    virtual = ds.tiffstack.virtual()
    assert isinstance(virtual.image.data, virtualizarr.manifests.ManifestArray)
    assert len(virtual.image.data.manifest.dict()) == 14 * SHAPE[0]
    for got in (
        through_icechunk(virtual, folder),
        through_kerchunk(virtual, tmp_path / "raw.json"),
    ):
        xr.testing.assert_equal(got, ds.load())
        assert got.image.attrs == ds.image.attrs
        assert set(got.coords) == set(ds.coords)


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr:UserWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"rowsperstrip": 2},
        {"compression": "zlib", "rowsperstrip": 2},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw"},
        {"compression": "zstd", "tile": (16, 16)},
    ],
    ids=str,
)
def test_flavours(tmp_path: Path, options: dict[str, Any]) -> None:
    shape = (3, 40, 24) if "tile" in options else SHAPE
    for t in range(3):
        write(tmp_path / "raw #1%20" / f"cell_t{t}.tif", t, shape, **options)
    ds = opened(tmp_path / "raw #1%20", pattern="cell_t{t:d}.tif", pages="z")
    got = through_icechunk(ds.tiffstack.virtual(), tmp_path)
    np.testing.assert_array_equal(got.image, np.stack([pixels(t, shape) for t in range(3)]))


def test_it_is_put_together_with_others(tmp_path: Path) -> None:
    folders = [write_acquisition(tmp_path / "both" / day) for day in ("monday", "tuesday")]
    for number, path in enumerate(folders[1].iterdir()):
        write(path, 100 + number)
    each = [opened(folder) for folder in folders]
    parts = [ds.tiffstack.virtual() for ds in each]
    both = xr.concat(parts, "day", data_vars=["image"], coords="minimal", compat="override")
    got = through_icechunk(both.drop_vars("path"), tmp_path / "both")
    wanted = xr.concat([ds.image.drop_vars("path") for ds in each], "day")
    np.testing.assert_array_equal(got.image, wanted)
    assert not (got.image[0] == got.image[1]).all()
    part = parts[0].isel(stack=3, z=slice(1, 3)).sel(channel=560)
    np.testing.assert_array_equal(
        through_icechunk(part, folders[0]).image,
        each[0].image.isel(stack=3, z=slice(1, 3)).sel(channel=560),
    )


def test_what_cannot_be_referred_to_is_kept_in_memory_or_refused(tmp_path: Path) -> None:
    for t in range(4):
        write(tmp_path / "raw" / f"cell_t{t}.tif", t, byteorder=">" if t == 0 else "<")
    ds = opened(tmp_path / "raw", pattern="cell_t{t:d}.tif", pages="z")
    virtual = ds.tiffstack.virtual()
    held = virtual.image.data.manifest.dict()["0.0.0.0"]
    assert held["data"] == pixels(0)[0].astype("<u2").tobytes()
    np.testing.assert_array_equal(through_icechunk(virtual, tmp_path / "raw").image, ds.image)
    with pytest.raises(ValueError, match=r"1 file cannot.*\n.*cell_t0.*\n.*copy=True.*convert"):
        ds.tiffstack.virtual(copy=False)
    with pytest.raises(ValueError, match="these were computed"):
        ds.assign(image=ds.image + 1).tiffstack.virtual()
    with pytest.raises(ValueError, match="no variable 'image'"):
        ds.drop_vars("image").tiffstack.virtual()


def test_icechunk_notices_a_file_that_is_changed_after_the_time_that_is_given(
    acquisition: Path,
) -> None:
    path = sorted(acquisition.iterdir())[0]
    before = datetime.datetime.fromtimestamp(int(path.stat().st_mtime) - 60, datetime.UTC)
    virtual = opened(acquisition).tiffstack.virtual()
    with pytest.raises(icechunk.IcechunkError, match="has changed"):
        through_icechunk(virtual, acquisition, last_updated_at=before)

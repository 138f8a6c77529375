"""Azure by Azurite, and Google Cloud Storage by gcp-storage-emulator: servers of this machine.

Azurite is found in the path (``npm install -g azurite``), the other beside Python. The emulator of
Google speaks JSON alone, which stores are written by; sources are read by XML, which no emulator
does that PyPI, npm or Debian have. So no source at gs:// is read here.
"""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from cloud import running
from conftest import ONE_FILE_A_BLOCK, to_ome_zarr
from test_convert import dataset
from test_urls import opened, write_stack

from xarray_tiffstack.ome_zarr.cloud import Cloud

if TYPE_CHECKING:
    from collections.abc import Iterator

AZURITE = shutil.which("azurite-blob")
EMULATOR = shutil.which("gcp-storage-emulator", path=str(Path(sys.executable).parent))
# The account that Azurite always has, as its documentation prints it.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
SCHEMES = {"azure": "az", "google": "gs"}
# Of packages that are imported here: they warn about their own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def azure() -> Iterator[dict[str, Any]]:
    """Options of an account with an empty container, to which the environment leads, too."""
    pytest.importorskip("obstore")
    pytest.importorskip("adlfs")
    if AZURITE is None:
        pytest.skip("azurite is not installed")
    command = (AZURITE, "--blobPort", "PORT", "--inMemoryPersistence", "--skipApiVersionCheck")
    with running(*command, "--silent") as port, pytest.MonkeyPatch.context() as patch:
        account = f"http://127.0.0.1:{port}/devstoreaccount1"
        text = (
            f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={KEY};"
            f"BlobEndpoint={account};"
        )
        patch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(text) as client:
            client.create_container("bucket")
        yield {"connection_string": text}
        from adlfs import AzureBlobFileSystem

        AzureBlobFileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def google() -> Iterator[None]:
    """An empty bucket, to which the environment leads."""
    if EMULATOR is None:
        pytest.skip("gcp-storage-emulator is not installed")
    import fsspec

    command = (EMULATOR, "start", "-H", "127.0.0.1", "--port", "PORT", "-M", "-q")
    with (
        running(*command, "--default-bucket", "bucket") as port,
        pytest.MonkeyPatch.context() as patch,
    ):
        # Else gcsfs asks by gRPC what kind of bucket it is, which needs certificates.
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        pytest.importorskip("gcsfs")
        server = f"http://127.0.0.1:{port}"
        patch.setenv("STORAGE_EMULATOR_HOST", server)
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", server)
        patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "any")
        for name in ("gs", "gcs"):
            patch.setitem(fsspec.config.conf, name, {"token": "anon"})
        yield


def test_a_source_and_a_store_at_azure(azure: dict[str, Any], tmp_path: Path) -> None:
    import obstore

    from xarray_tiffstack.storage import Access

    bucket, _ = Access(azure).store("az://bucket/raw")
    for t in range(4):
        path = write_stack(tmp_path / f"raw/cell_t{t}.tif", t, 30)
        obstore.put(bucket, f"raw/{path.name}", path.read_bytes())
    ds = opened("az://bucket/raw", storage_options=azure)
    local = opened(tmp_path / "raw")
    assert ds.path.values.tolist() == [f"az://bucket/raw/cell_t{t}.tif" for t in range(4)]
    np.testing.assert_array_equal(ds.image, local.image)
    np.testing.assert_array_equal(ds.image.isel(z=7, y=3), local.image.isel(z=7, y=3))
    assert len(opened("az://bucket/raw/*_t[12].tif", storage_options=azure).path) == 2
    store = "az://bucket/out.zarr"
    assert ds.tiffstack.to_ome_zarr(store, progress=False).failed == ()
    assert ds.tiffstack.verify(store, progress=False).ok
    # An object that changed is read anew, and is what verify says.
    obstore.put(bucket, "raw/cell_t1.tif", (tmp_path / "raw/cell_t2.tif").read_bytes())
    np.testing.assert_array_equal(ds.image[1], local.image[2])
    assert not ds.tiffstack.verify(store, progress=False).ok
    with pytest.raises(FileNotFoundError, match="no TIFF in az://bucket/absent"):
        opened("az://bucket/absent", storage_options=azure)


@pytest.mark.parametrize("provider", ["azure", "google"])
@pytest.mark.parametrize("engine", ["auto", "zarr"])
def test_a_store_in_the_cloud(
    acquisition: Path, request: pytest.FixtureRequest, provider: str, engine: str
) -> None:
    request.getfixturevalue(provider)
    store = f"{SCHEMES[provider]}://bucket/{engine}.zarr"
    ds = dataset(acquisition)
    to_ome_zarr(ds, store, levels=2, engine=engine, limits=ONE_FILE_A_BLOCK)
    assert ds.tiffstack.verify(store, progress=False).ok
    found = xr.open_datatree(store, engine="zarr")["0"].to_dataset()
    xr.testing.assert_identical(found.load(), ds.transpose("stack", "channel", "z", "y", "x"))
    assert to_ome_zarr(ds, store, levels=2).written == 0
    to_ome_zarr(ds, store, levels=1, overwrite=True)
    assert ds.tiffstack.verify(store, progress=False).ok


def test_one_of_many_begins(azure: dict[str, Any]) -> None:
    """The emulator of Google knows no conditional put."""
    place = Cloud("az://bucket/once")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda i: place.create_once("x", b"%d" % i), range(4)))
    assert made.count(True) == 1
    assert place.read(["x"]) == {"x": b"%d" % made.index(True)}
    place.delete(["x"])
    assert place.read(["x"]) == {}

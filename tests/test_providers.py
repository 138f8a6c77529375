"""Azure by Azurite, and Google Cloud Storage by two programs: servers of this machine.

Azurite is found in the path (``npm install -g azurite``), gcp-storage-emulator beside Python, and
Google's own test bench in the path (github.com/googleapis/storage-testbench, by pip in an
environment of its own).

What is not tried: a store in the test bench, which refuses the uploads of gcsfs (their lines end
otherwise); tensorstore writes there, and it alone of the two has conditional puts. Sources are read
by XML, of which the emulator has nothing, and the test bench neither listings nor the headers ETag
and Last-Modified, without which obstore reads no object. They are read from moto instead: it is
made for S3, whose XML is the same.
"""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
import xarray as xr
from cloud import forget, moto, running
from conftest import ONE_FILE_A_BLOCK, to_ome_zarr
from test_convert import dataset
from test_urls import opened, write_stack

from xarray_tiffstack.ome_zarr.cloud import Cloud, _opened
from xarray_tiffstack.ome_zarr.lock import locked
from xarray_tiffstack.storage import Access

if TYPE_CHECKING:
    from collections.abc import Iterator

AZURITE = shutil.which("azurite-blob")
BENCH = shutil.which("storage-testbench")
EMULATOR = shutil.which("gcp-storage-emulator", path=str(Path(sys.executable).parent))
# The account that Azurite always has, as its documentation prints it.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
# Each server has a bucket of its own: tensorstore keeps what it opened in one, and where it was.
BUCKETS = {"azure": "az://bucket", "google": "gs://bucket", "testbench": "gs://bench"}
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

        forget(AzureBlobFileSystem)


@contextmanager
def led_to(port: int) -> Iterator[None]:
    """Have the environment lead to a server in the place of Google Cloud Storage."""
    import fsspec

    with pytest.MonkeyPatch.context() as patch:
        # Else gcsfs asks by gRPC what kind of bucket it is, which needs certificates.
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        gcsfs = pytest.importorskip("gcsfs")
        forget(gcsfs.GCSFileSystem)  # of another server, in tests before
        _opened.cache_clear()
        server = f"http://127.0.0.1:{port}"
        patch.setenv("STORAGE_EMULATOR_HOST", server)
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", server)
        patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "any")
        for name in ("gs", "gcs"):
            patch.setitem(fsspec.config.conf, name, {"token": "anon"})
        yield
        forget(gcsfs.GCSFileSystem)
        _opened.cache_clear()


@pytest.fixture(scope="module")
def google() -> Iterator[None]:
    """An empty bucket of the emulator, to which the environment leads."""
    if EMULATOR is None:
        pytest.skip("gcp-storage-emulator is not installed")
    command = (EMULATOR, "start", "-H", "127.0.0.1", "--port", "PORT", "-M", "-q")
    with running(*command, "--default-bucket", "bucket") as port, led_to(port):
        yield


@pytest.fixture
def public() -> Iterator[tuple[Any, dict[str, Any]]]:
    """A bucket of moto that all may read, to write to by S3, and options to read it as Google's.

    Both services speak the same XML, and their servers differ in how requests are signed.
    """
    pytest.importorskip("obstore")
    allowed = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": ["arn:aws:s3:::lab", "arn:aws:s3:::lab/*"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]}).encode()
    with moto() as port:
        server = f"http://127.0.0.1:{port}"
        urlopen(Request(f"{server}/lab", method="PUT"), timeout=60).close()
        kind = {"Content-Type": "application/json"}
        urlopen(Request(f"{server}/lab?policy", policy, kind, method="PUT"), timeout=60).close()
        keys = {"key": "a", "secret": "b", "endpoint_url": server}
        yield Access(keys).store("s3://lab/x")[0], {"token": "anon", "endpoint_url": server}


@pytest.fixture
def testbench() -> Iterator[None]:
    """An empty bucket of Google's test bench, to which the environment leads."""
    if BENCH is None:
        pytest.skip("storage-testbench is not installed")
    gunicorn = str(Path(BENCH).with_name("gunicorn"))
    with (
        running(gunicorn, "--bind", "127.0.0.1:PORT", "--threads", "8", "testbench:run()") as port,
        led_to(port),
    ):
        about = json.dumps({"name": "bench"}).encode()
        asked = Request(
            f"http://127.0.0.1:{port}/storage/v1/b?project=any",
            about,
            {"Content-Type": "application/json"},
        )
        urlopen(asked, timeout=60).close()
        yield


def put(bucket: Any, folder: Path, at: str) -> None:
    import obstore

    for path in folder.iterdir():
        obstore.put(bucket, f"{at}/{path.name}", path.read_bytes())


def read_and_converted(
    bucket: Any, url: str, options: dict[str, Any], folder: Path, store: Any
) -> None:
    """Compare a source below the URL of a bucket with the same files on a disk, and convert it."""
    import obstore

    for t in range(4):
        write_stack(folder / f"cell_t{t}.tif", t, 30)
    put(bucket, folder, "raw")
    ds = opened(f"{url}/raw", storage_options=options)
    local = opened(folder)
    assert ds.path.values.tolist() == [f"{url}/raw/cell_t{t}.tif" for t in range(4)]
    np.testing.assert_array_equal(ds.image, local.image)
    np.testing.assert_array_equal(ds.image.isel(z=7, y=3), local.image.isel(z=7, y=3))
    assert len(opened(f"{url}/raw/*_t[12].tif", storage_options=options).path) == 2
    assert ds.tiffstack.to_ome_zarr(store, progress=False).failed == ()
    assert ds.tiffstack.verify(store, progress=False).ok
    # An object that changed is read anew, and is what verify says.
    obstore.put(bucket, "raw/cell_t1.tif", (folder / "cell_t2.tif").read_bytes())
    np.testing.assert_array_equal(ds.image[1], local.image[2])
    assert not ds.tiffstack.verify(store, progress=False).ok
    with pytest.raises(FileNotFoundError, match=f"no TIFF in {url}/absent"):
        opened(f"{url}/absent", storage_options=options)


def indexed(bucket: Any, url: str, options: dict[str, Any], folder: Path) -> None:
    """Index a source below the URL of a bucket, and have one of its objects change."""
    pytest.importorskip("icechunk")
    import obstore

    from xarray_tiffstack import check_index, open_index

    for t in range(2):
        write_stack(folder / f"cell_t{t}.tif", t, 3)
    put(bucket, folder, "indexed")
    ds = opened(f"{url}/indexed", storage_options=options)
    index = folder.with_name("raw.icechunk")
    ds.tiffstack.to_virtual(index)
    with xr.open_datatree(open_index(index, storage_options=options), engine="zarr") as tree:
        np.testing.assert_array_equal(tree["0"].image.values, ds.image.values)
    for path in index.rglob("*"):
        if path.is_file():
            obstore.put(bucket, path.relative_to(folder.parent).as_posix(), path.read_bytes())
    there = f"{url}/raw.icechunk"
    with xr.open_datatree(open_index(there, storage_options=options), engine="zarr") as tree:
        np.testing.assert_array_equal(tree["0"].image.values, ds.image.values)
    obstore.put(bucket, "indexed/cell_t1.tif", (folder / "cell_t0.tif").read_bytes())
    (line,) = check_index(index, storage_options=options)
    assert "cell_t1.tif has the ETag" in line


def test_a_source_and_a_store_at_azure(azure: dict[str, Any], tmp_path: Path) -> None:
    bucket, _ = Access(azure).store("az://bucket/raw")
    read_and_converted(bucket, "az://bucket", azure, tmp_path / "raw", "az://bucket/out.zarr")


def test_an_index_of_azure(azure: dict[str, Any], tmp_path: Path) -> None:
    bucket, _ = Access(azure).store("az://bucket/raw")
    indexed(bucket, "az://bucket", azure, tmp_path / "raw")


def test_a_source_at_google(public: tuple[Any, dict[str, Any]], tmp_path: Path) -> None:
    read_and_converted(public[0], "gs://lab", public[1], tmp_path / "raw", tmp_path / "out.zarr")


def test_an_index_of_google(public: tuple[Any, dict[str, Any]], tmp_path: Path) -> None:
    indexed(public[0], "gs://lab", public[1], tmp_path / "raw")


@pytest.mark.parametrize("provider", ["azure", "google"])
@pytest.mark.parametrize("engine", ["auto", "zarr"])
def test_a_store_in_the_cloud(
    acquisition: Path, request: pytest.FixtureRequest, provider: str, engine: str
) -> None:
    request.getfixturevalue(provider)
    store = f"{BUCKETS[provider]}/{engine}.zarr"
    ds = dataset(acquisition)
    to_ome_zarr(ds, store, levels=2, engine=engine, limits=ONE_FILE_A_BLOCK)
    assert ds.tiffstack.verify(store, progress=False).ok
    found = xr.open_datatree(store, engine="zarr")["0"].to_dataset()
    xr.testing.assert_identical(found.load(), ds.transpose("stack", "channel", "z", "y", "x"))
    assert to_ome_zarr(ds, store, levels=2).written == 0
    to_ome_zarr(ds, store, levels=1, overwrite=True)
    assert ds.tiffstack.verify(store, progress=False).ok


@pytest.mark.parametrize("provider", ["azure", "testbench"])
def test_one_of_many_begins(request: pytest.FixtureRequest, provider: str) -> None:
    """The emulator of Google knows no conditional put."""
    request.getfixturevalue(provider)
    place = Cloud(f"{BUCKETS[provider]}/once")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda i: place.create_once("x", b"%d" % i), range(4)))
    assert made.count(True) == 1
    assert place.read(["x"]) == {"x": b"%d" % made.index(True)}
    place.delete(["x"])
    assert place.read(["x"]) == {}


def test_a_note_is_replaced_only_as_it_was_read(testbench: None) -> None:
    pytest.importorskip("tensorstore")
    place = Cloud("gs://bench/notes")
    place.write([("x", b"0")])
    _, stamp = place.stamped("x")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda i: place.replace("x", b"%d" % i, stamp), range(1, 5)))
    assert made.count(True) == 1
    data, later = place.stamped("x")
    assert data == b"%d" % (made.index(True) + 1)
    assert not place.replace("x", None, stamp)
    assert place.replace("x", None, later)
    assert place.stamped("x") == (None, None)


def test_parts_and_conversions_at_google(testbench: None) -> None:
    pytest.importorskip("tensorstore")
    store = "gs://bench/parts.zarr"
    with locked(store, shared=True) as first:
        assert first.alone
        first.share()
        with locked(store, shared=True) as second:
            assert not second.alone
            with pytest.raises(BlockingIOError, match=r"\(a part, process"), locked(store):
                pass
            second.require(look=True)
        first.require(look=True)
    with (
        locked(store) as alone,
        pytest.raises(BlockingIOError, match="another conversion writes"),
        locked(store),
    ):
        alone.require(look=True)
    assert Cloud("gs://bench").names() == []

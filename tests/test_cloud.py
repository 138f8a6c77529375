"""A store in the cloud: an S3 server on this machine, which moto brings."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from conftest import ONE_FILE_A_BLOCK, pixels, to_ome_zarr, write
from test_convert import begun, dataset

from xarray_tiffstack.ome_zarr import verify
from xarray_tiffstack.ome_zarr.growth import Growth
from xarray_tiffstack.ome_zarr.settings import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

MOTO = shutil.which("moto_server", path=str(Path(sys.executable).parent))
# Of packages that are imported here: they warn about their own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Address of an empty bucket, which the environment leads to."""
    s3fs = pytest.importorskip("s3fs")
    if MOTO is None:
        pytest.skip("moto_server is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    about = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }
    command = [MOTO, "-H", "127.0.0.1", "-p", str(port)]
    with (
        pytest.MonkeyPatch.context() as patch,
        subprocess.Popen(command, stderr=subprocess.DEVNULL) as server,
    ):
        try:
            for name, value in about.items():
                patch.setenv(name, value)
            wait_for(port)
            s3fs.S3FileSystem.clear_instance_cache()  # of another server, in tests before
            s3fs.S3FileSystem(endpoint_url=endpoint, key="a", secret="b").mkdir("bucket")
            yield "s3://bucket"
        finally:
            server.terminate()


def wait_for(port: int) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "moto_server did not begin"
            time.sleep(0.1)
        else:
            return


@pytest.mark.parametrize("engine", ["auto", "zarr"])
@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_a_store_in_the_cloud(acquisition, bucket, engine, version):
    ds, store = dataset(acquisition), f"{bucket}/{engine}-{version}.zarr"
    options: dict[str, Any] = {"levels": 2, "ngff_version": version}
    begun(ds, store, 4, **options)
    summary = to_ome_zarr(ds, store, engine=engine, limits=ONE_FILE_A_BLOCK, **options)
    assert summary.written == 11
    assert verify(ds, store).ok
    found = xr.open_datatree(store, engine="zarr")["0"].to_dataset()
    xr.testing.assert_identical(found.load(), ds.transpose("stack", "channel", "z", "y", "x"))


def test_both_engines_write_the_same_objects(acquisition, bucket):
    import s3fs

    for engine in ("auto", "zarr"):
        to_ome_zarr(dataset(acquisition), f"{bucket}/{engine}.zarr", engine=engine, levels=2)
    cloud = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"], key="a", secret="b")
    own, theirs = (
        {
            path.partition(".zarr/")[2]: cloud.cat(path)
            for path in cloud.find(f"bucket/{engine}.zarr")
        }
        for engine in ("auto", "zarr")
    )
    assert own == theirs


def test_a_collection_in_the_cloud(tmp_path, bucket):
    for i, (p, t) in enumerate(product(range(2), range(3))):
        write(tmp_path / "raw" / f"a_p{p}_t{t}.tif", i)
    ds = dataset(tmp_path / "raw", pattern="a_p{position:d}_t{time:d}.tif")
    store = f"{bucket}/collection.zarr"
    to_ome_zarr(ds, store)
    to_ome_zarr(ds, tmp_path / "a.zarr")
    import tensorstore

    kvstore = {"driver": "s3", "bucket": "bucket", "path": "collection.zarr/"}
    kvstore["endpoint"] = os.environ["AWS_ENDPOINT_URL"]
    xml = tensorstore.KvStore.open(kvstore).result().read("OME/METADATA.ome.xml").result().value
    assert xml == (tmp_path / "a.zarr/OME/METADATA.ome.xml").read_bytes()
    found = xr.open_datatree(store, engine="zarr")["1/0"].image
    np.testing.assert_array_equal(found[2], pixels(5))


def test_a_store_in_the_cloud_grows(acquisition, bucket):
    ds, store = dataset(acquisition), f"{bucket}/grown.zarr"
    growth = Growth(store, Options(levels=2))
    for stacks in (2, 4):
        growth.take(ds.isel(stack=slice(stacks)))
        assert xr.open_datatree(store, engine="zarr")["0"].sizes["stack"] == stacks
    to_ome_zarr(ds.isel(stack=slice(4)), store, levels=2)
    assert verify(ds.isel(stack=slice(4)), store).ok

"""Files written back from a store in the cloud: an S3 server on this machine, which moto brings."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from cloud import objects, serving
from conftest import ONE_FILE_A_BLOCK, dataset, reference_name, to_ome_zarr, write_acquisition
from proxy import Proxy
from test_restore import hashes

from xarray_tiffstack import restore
from xarray_tiffstack.array.complete import complete_files
from xarray_tiffstack.back.keeping import keeping
from xarray_tiffstack.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Of packages that are imported here: they warn about their own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an empty bucket, which the environment leads to."""
    with serving(tmp_path_factory.mktemp("moto") / "log") as address:
        yield address


def write_raw(folder: Path) -> Path:
    """Write an acquisition with a hole, and with files beside it."""
    raw = write_acquisition(folder / "raw")
    (raw / reference_name(1, 2)).unlink()
    (raw / "Settings.txt").write_text("z steps: 4")
    (raw / "deep").mkdir()
    (raw / "deep" / "notes ünï.md").write_text("a mouse")
    return raw


@pytest.mark.parametrize("engine", ["auto", "zarr"])
@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_a_store_in_the_cloud_gives_files_back(tmp_path, bucket, engine, version):
    raw, store = write_raw(tmp_path), f"{bucket}/{engine}-{version}.zarr"
    ds = dataset(raw)
    options: dict[str, Any] = {"keeper": keeping(complete_files(ds), False), "engine": engine}
    summary = to_ome_zarr(ds, store, levels=2, ngff_version=version, **options)
    assert (summary.kept.files, summary.kept.others) == (16, 2)
    assert restore(store, check=True).ok
    done = restore(store, tmp_path / "some", sel={"channel": 560})
    assert (done.ok, done.written) == (True, 4)
    assert restore(store, tmp_path / "back").ok
    assert hashes(tmp_path / "back") == hashes(raw)
    assert ds.tiffstack.verify(store, restorable=True).restorable.ok


def test_the_commands(tmp_path, bucket, capsys):
    raw, back, store = write_raw(tmp_path), tmp_path / "back", f"{bucket}/command.zarr"
    assert main(["convert", str(raw), store, "--restorable", "--quiet"]) == 0
    assert main(["verify", str(raw), store, "--restorable", "--quiet"]) == 0
    assert "The raw folder can be deleted." in capsys.readouterr().out
    assert main(["restore", store, "--check", "--quiet"]) == 0
    assert main(["restore", store, str(back), "--quiet"]) == 0
    assert hashes(back) == hashes(raw)
    assert main(["restore", f"{bucket}/none.zarr", str(back), "--quiet"]) == 1
    assert "is no store" in capsys.readouterr().err


def test_a_lost_and_a_damaged_object_are_told(tmp_path, bucket):
    import s3fs

    raw, store = write_acquisition(tmp_path / "raw"), f"{bucket}/damaged.zarr"
    dataset(raw).tiffstack.to_ome_zarr(store, restorable=True, levels=1)
    cloud = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"], key="a", secret="b")
    chunks = sorted(key for key in objects("damaged.zarr", names=True) if "/image/c" in key)
    cloud.rm(f"bucket/damaged.zarr/{chunks[0]}")
    cloud.pipe(f"bucket/damaged.zarr/{chunks[7]}", b"half")
    done = restore(store, tmp_path / "back")
    assert len(done.failed) == 2
    assert len(hashes(tmp_path / "back")) == 13


CODE = """
import sys
import xarray as xr
from xarray_tiffstack import restore
what, raw, store, back = sys.argv[1:]
if what == "restore":
    assert restore(store, back, progress=False, workers=1).ok
else:
    ds = xr.open_dataset(raw, engine="tiffstack")
    ds.tiffstack.to_ome_zarr(store, restorable=True, levels=1, progress=False, workers=1)
"""


def test_killed_and_resumed(tmp_path, bucket):
    """Killed while the store is written, and while files are: the same calls come to the end."""
    raw, back, store = write_raw(tmp_path), tmp_path / "back", f"{bucket}/killed.zarr"

    def written() -> int:
        return len(list(back.glob("*.tif"))) if back.is_dir() else 0

    def stored() -> int:
        return sum("/files/slots/" in key for key in objects("killed.zarr", names=True))

    for what, count, after in (("convert", stored, (1, 8)), ("restore", written, (1, 9))):
        seen = set()
        for wanted in after:
            command = [sys.executable, "-W", "ignore", "-c", CODE, what, raw, store, back]
            with subprocess.Popen(command) as process:
                while process.poll() is None and count() < wanted:
                    time.sleep(0.01)
                process.kill()
            seen.add(process.returncode)
        assert seen <= {0, -9}
        assert -9 in seen  # on a slow machine the last ones may come to the end
        if what == "convert":
            dataset(raw).tiffstack.to_ome_zarr(store, restorable=True, levels=1)
    there = written()
    done = restore(store, back)
    assert done.ok
    assert done.there >= there
    assert hashes(back) == hashes(raw)


@pytest.mark.parametrize("kind", ["500", "reset"])
def test_faults_on_the_way_are_got_over(tmp_path, bucket, monkeypatch, kind):
    import fsspec

    raw, store = write_raw(tmp_path), f"{bucket}/faults-{kind}.zarr"
    proxy = Proxy(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]))
    rng = random.Random(4)
    proxy.fault = lambda request: kind if rng.random() < 0.1 else None
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)  # of tensorstore
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": proxy.url})
    ds = dataset(raw)
    options: dict[str, Any] = {"keeper": keeping(complete_files(ds), False)}
    to_ome_zarr(ds, store, levels=1, limits=ONE_FILE_A_BLOCK, **options)
    assert restore(store, tmp_path / "back").ok
    assert hashes(tmp_path / "back") == hashes(raw)
    assert proxy.given[kind] > 3
    proxy.close()


def test_entries_are_asked_for_many_at_once(tmp_path, bucket, monkeypatch):
    """A store far away: the time of a request does not count once for each file."""
    raw, store = write_acquisition(tmp_path / "raw", 20), f"{bucket}/far.zarr"
    dataset(raw).tiffstack.to_ome_zarr(store, restorable=True, levels=1)
    proxy = Proxy(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]), delay=0.05)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    assert restore(store, check=True).ok
    gets = [r for r in proxy.requests if "/files/slots/c" in r.path]
    assert len(gets) <= 2 * 60 + 1
    assert proxy.most > 4
    proxy.close()


def test_a_folder_that_is_not_there_any_more(tmp_path, bucket):
    raw, store = write_raw(tmp_path), f"{bucket}/gone.zarr"
    dataset(raw).tiffstack.to_ome_zarr(store, restorable=True)
    before = hashes(raw)
    shutil.rmtree(raw)
    assert restore(store, raw).ok
    assert hashes(raw) == before

"""A store in the cloud: an S3 server on this machine, which moto brings."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from cloud import objects, serving
from conftest import ONE_FILE_A_BLOCK, dataset, pixels, to_ome_zarr, write, write_acquisition
from proxy import Proxy
from test_convert import begun

from xarray_tiffstack.ome_zarr import verify
from xarray_tiffstack.ome_zarr.cloud import Cloud
from xarray_tiffstack.ome_zarr.convert import convert
from xarray_tiffstack.ome_zarr.growth import Growth
from xarray_tiffstack.ome_zarr.lease import BEAT, STALE
from xarray_tiffstack.ome_zarr.lock import locked
from xarray_tiffstack.ome_zarr.settings import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of packages that are imported here: they warn about their own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server tells of each request."""
    return tmp_path_factory.mktemp("moto") / "log"


@pytest.fixture
def requests(bucket: str, log: Path) -> Iterator[Requests]:
    """Methods of the requests since they were cleared."""
    return Requests(log)


class Requests:
    """Methods of the requests that a server wrote down."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.clear()

    def clear(self) -> None:
        """Begin here."""
        self.begin = self.log.stat().st_size

    def __iter__(self) -> Iterator[str]:
        """List the methods."""
        text = self.log.read_text()[self.begin :]
        return iter(re.findall(r'"([A-Z]+) /', text))


@pytest.fixture(scope="module")
def bucket(log: Path) -> Iterator[str]:
    """Address of an empty bucket, which the environment leads to."""
    with serving(log) as address:
        yield address


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
    for engine in ("auto", "zarr"):
        to_ome_zarr(dataset(acquisition), f"{bucket}/{engine}.zarr", engine=engine, levels=2)
    assert objects("auto.zarr") == objects("zarr.zarr")


@pytest.mark.parametrize("place", ["bucket", "memory", "file"])
def test_nothing_of_others_is_deleted(acquisition, tmp_path, bucket, place):
    import fsspec

    root = {"bucket": bucket, "memory": "memory://", "file": f"file://{tmp_path}"}[place]
    options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]} if place == "bucket" else {}
    folder = f"{root}/precious"
    files, _ = fsspec.core.url_to_fs(root, **options)
    files.auto_mkdir = True
    files.pipe(f"{folder}/notes.txt", b"mine")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="something else than a Zarr store"):
            to_ome_zarr(dataset(acquisition), folder, levels=1, overwrite=overwrite)
    store = f"{root}/own.zarr"
    to_ome_zarr(dataset(acquisition), store, levels=1)
    to_ome_zarr(dataset(acquisition), store, levels=2, overwrite=True)
    for name in ("notes.txt", "labels/zarr.json", "0/mask/c/0"):
        files.pipe(f"{store}/{name}", b"{}")
    before = {path: files.cat(path) for path in files.find(store)}
    with pytest.raises(FileExistsError, match="did not write") as refused:
        to_ome_zarr(dataset(acquisition), store, levels=1, overwrite=True)
    assert all(name in str(refused.value) for name in ("notes.txt", "labels/", "0/mask/"))
    assert {path: files.cat(path) for path in files.find(store)} == before
    assert files.cat(f"{folder}/notes.txt") == b"mine"


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_nobody_takes_half_a_store_for_a_store(acquisition, bucket, version):
    ds, store = dataset(acquisition), f"{bucket}/half-{version}.zarr"
    options: dict[str, Any] = {"levels": 2, "ngff_version": version}
    to_ome_zarr(ds, store, levels=1, ngff_version=version)
    for overwrite in (True, False):
        begun(ds, store, 4, overwrite=overwrite, **options)
        with pytest.raises(FileNotFoundError):
            xr.open_datatree(store, engine="zarr")
    to_ome_zarr(ds, store, limits=ONE_FILE_A_BLOCK, **options)
    assert verify(ds, store).ok


def test_a_process_is_killed_at_any_request(acquisition, bucket):
    """The same call resumes, and ends with the objects that one conversion writes."""
    to_ome_zarr(dataset(acquisition), f"{bucket}/whole.zarr", levels=2, limits=ONE_FILE_A_BLOCK)
    whole = objects("whole.zarr")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from conftest import ONE_FILE_A_BLOCK, to_ome_zarr; import xarray as xr\n"
        "ds = xr.open_dataset(sys.argv[2], engine='tiffstack')\n"
        "to_ome_zarr(ds, sys.argv[3], levels=2, limits=ONE_FILE_A_BLOCK)\n"
    )
    store = f"{bucket}/killed.zarr"
    command = [sys.executable, "-W", "ignore", "-c", code, str(Path(__file__).parent)]
    seen = set()
    for wanted in (1, 8, len(whole) // 2, len(whole) - 12):
        with subprocess.Popen([*command, str(acquisition), store]) as process:
            while process.poll() is None and len(objects("killed.zarr", names=True)) < wanted:
                time.sleep(0.01)
            process.kill()
        seen.add(process.returncode)
    assert -9 in seen  # on a slow machine the last ones may find the store complete
    to_ome_zarr(dataset(acquisition), store, levels=2, limits=ONE_FILE_A_BLOCK)
    assert objects("killed.zarr") == whole
    assert verify(dataset(acquisition), store).ok


def test_questions_do_not_grow_with_the_number_of_chunks(tmp_path, requests):
    asked = []
    for stacks in (1, 3, 9):  # of the first of a process the library asks where the bucket is
        ds = dataset(write_acquisition(tmp_path / str(stacks), stacks))
        requests.clear()
        to_ome_zarr(ds, f"s3://bucket/{stacks}.zarr", levels=1, limits=ONE_FILE_A_BLOCK)
        kinds = Counter(requests)
        written = len(objects(f"{stacks}.zarr", names=True))
        assert kinds.pop("PUT") <= written + 3
        asked.append(sum(kinds.values()))
    assert asked[1] == asked[2] < 40


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


@pytest.mark.parametrize("kind", ["500", "503", "reset"])
def test_faults_on_the_way_are_got_over(acquisition, bucket, monkeypatch, kind):
    import fsspec

    proxy = Proxy(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]))
    rng = random.Random(4)
    proxy.fault = lambda request: kind if rng.random() < 0.1 else None
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)  # of tensorstore
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": proxy.url})
    ds, store = dataset(acquisition), f"{bucket}/faults-{kind}.zarr"
    to_ome_zarr(ds, store, levels=2, limits=ONE_FILE_A_BLOCK)
    assert proxy.given[kind] > 3
    assert {request.method for request in proxy.requests} >= {"GET", "PUT"}
    with monkeypatch.context() as straight:
        straight.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server}")
        straight.setitem(fsspec.config.conf, "s3", {})
        to_ome_zarr(ds, f"{bucket}/whole-{kind}.zarr", levels=2, limits=ONE_FILE_A_BLOCK)
        assert objects(f"faults-{kind}.zarr") == objects(f"whole-{kind}.zarr")
    assert verify(ds, store).ok
    proxy.close()


def test_two_parts_at_once(acquisition, bucket):
    store = f"{bucket}/parts.zarr"
    command = [sys.executable, "-W", "ignore", "-m", "xarray_tiffstack", "convert", acquisition]
    parts = [
        subprocess.Popen([*command, store, "--quiet", "--part", f"{number}/2"], text=True)
        for number in (2, 1)
    ]
    assert [part.wait() for part in parts] == [0, 0]
    to_ome_zarr(dataset(acquisition), f"{bucket}/alone.zarr")
    assert objects("parts.zarr") == objects("alone.zarr")
    assert verify(dataset(acquisition), store).ok


# --- who may write ----------------------------------------------------------------------------


def test_of_many_that_begin_at_once_one_begins(bucket):
    place = Cloud(f"{bucket}/once")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: place.create_once("x", b"%d" % i), range(8)))
    assert made.count(True) == 1
    assert place.read(["x"]) == {"x": b"%d" % made.index(True)}


def start(
    acquisition: Path, store: str, *words: str, beat: float = BEAT, stale: float = STALE, **how: Any
) -> subprocess.Popen[str]:
    """Convert in another process, slowly enough to be met."""
    code = (
        "import sys, time; from xarray_tiffstack import cli; from xarray_tiffstack.ome_zarr "
        f"import lease, writer\nlease.BEAT, lease.STALE = {beat}, {stale}\n"
        "transfer = writer.Writer._transfer\n"
        "def slowly(*args): time.sleep(0.5); return transfer(*args)\n"
        "writer.Writer._transfer = slowly\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, "convert", str(acquisition), store]
    return subprocess.Popen([*command, "--quiet", "--workers", "1", *words], text=True, **how)


def note_of(store: str) -> dict[str, Any]:
    """The note beside a store; empty where there is none."""
    folder, _, name = store.rpartition("/")
    key = f".{name}.lock"
    return json.loads(Cloud(folder).read([key]).get(key, b"{}"))


def test_a_second_conversion_is_refused_until_the_first_is_dead(acquisition, bucket):
    ds, store = dataset(acquisition), f"{bucket}/two.zarr"
    with start(acquisition, store) as first:
        while not note_of(store):
            time.sleep(0.05)
        with pytest.raises(BlockingIOError, match=rf"two.zarr \(process {first.pid} on"):
            to_ome_zarr(ds, store)
        with pytest.raises(BlockingIOError, match="another conversion writes to"):
            to_ome_zarr(ds, store, part="1/2")
        first.kill()
    assert note_of(store)["process"] == first.pid
    to_ome_zarr(ds, store)  # of this machine: it is seen that the process is dead
    assert note_of(store) == {}
    to_ome_zarr(ds, f"{bucket}/one.zarr")
    assert objects("two.zarr") == objects("one.zarr")


def test_what_is_not_renewed_is_taken_over(acquisition, bucket):
    store, key = f"{bucket}/stale.zarr", ".stale.zarr.lock"
    about = {"process": 1, "host": "another", "token": "x", "parts": False, "shared": False}

    def left(seconds: float) -> None:
        note = {**about, "renewed": time.time() - seconds}
        Cloud(bucket).write([(key, json.dumps(note).encode())])

    left(STALE / 2)
    with pytest.raises(BlockingIOError, match=r"process 1 on another, heard of 6\d s ago"):
        to_ome_zarr(dataset(acquisition), store)
    assert objects("stale.zarr") == {}
    left(STALE + 1)
    to_ome_zarr(dataset(acquisition), store)
    assert note_of(store) == {}


def test_a_conversion_that_was_taken_over_says_so(acquisition, bucket, monkeypatch):
    store = f"{bucket}/lost.zarr"
    monkeypatch.setattr("xarray_tiffstack.ome_zarr.lease.BEAT", 0.05)
    with pytest.raises(BlockingIOError, match="took over"), locked(store):  # noqa: PT012
        before = note_of(store)
        time.sleep(0.3)
        assert note_of(store)["renewed"] > before["renewed"]
        note = {**before, "token": "another"}
        Cloud(bucket).write([(".lost.zarr.lock", json.dumps(note).encode())])
        time.sleep(0.5)
    assert note_of(store)["token"] == "another"
    Cloud(bucket).delete([".lost.zarr.lock"])


def test_a_conversion_that_slept_stops_when_it_was_taken_over(acquisition, bucket):
    """The first one is stopped as a laptop that sleeps is, and writes nothing after that."""
    store = f"{bucket}/slept.zarr"
    words = ("--levels", "2", "--chunks", "z=1")
    quick: dict[str, Any] = {"beat": 0.2, "stale": 2.0}
    first = start(acquisition, store, *words, **quick, stderr=subprocess.PIPE)
    while not any("/c/" in key for key in objects("slept.zarr", names=True)):
        time.sleep(0.05)
    first.send_signal(signal.SIGSTOP)
    while time.time() < note_of(store)["renewed"] + quick["stale"]:
        time.sleep(0.05)
    with start(acquisition, store, *words, **quick) as second:
        while note_of(store)["process"] != second.pid:
            time.sleep(0.05)
        first.send_signal(signal.SIGCONT)
        _, said = first.communicate()
        assert second.poll() is None  # the first one did not write until its end
        assert note_of(store)["process"] == second.pid
    assert (first.returncode, second.returncode) == (1, 0)
    assert "took over" in said
    to_ome_zarr(dataset(acquisition), f"{bucket}/awake.zarr", levels=2, chunks={"z": 1})
    assert objects("slept.zarr") == objects("awake.zarr")


def test_whichever_part_comes_first_begins(acquisition, bucket):
    ds, store = dataset(acquisition), f"{bucket}/any.zarr"
    second = convert(ds, store, Options(levels=2), limits=ONE_FILE_A_BLOCK, part="2/3")
    assert second.left
    parts = [start(acquisition, store, "--levels", "2", "--part", f"{n}/3") for n in (3, 1)]
    while not note_of(store).get("shared"):
        time.sleep(0.05)
    with pytest.raises(BlockingIOError, match=r"\(a part, process"):
        to_ome_zarr(ds, store, levels=2, limits=ONE_FILE_A_BLOCK)
    assert [part.wait() for part in parts] == [0, 0]
    convert(ds, store, Options(levels=2), limits=ONE_FILE_A_BLOCK, part="1/3")
    assert notes_at(bucket, "any.zarr") == []
    assert verify(ds, store).ok


def notes_at(bucket: str, name: str) -> list[str]:
    """Names of the notes of a store and of its parts."""
    place = Cloud(bucket)
    return [n for n in place.names() if n.startswith(f".{name}")] + place.names(f".{name}.parts")


def test_after_parts_that_ended_a_conversion_begins_at_once(acquisition, bucket):
    ds, store = dataset(acquisition), f"{bucket}/rest.zarr"
    first = convert(ds, store, Options(levels=2), limits=ONE_FILE_A_BLOCK, part="1/2")
    assert first.left
    assert notes_at(bucket, "rest.zarr") == []
    to_ome_zarr(ds, store, levels=2, limits=ONE_FILE_A_BLOCK)
    to_ome_zarr(ds, f"{bucket}/rest-alone.zarr", levels=2, limits=ONE_FILE_A_BLOCK)
    assert objects("rest.zarr") == objects("rest-alone.zarr")


def test_a_part_that_was_killed_is_waited_for(acquisition, bucket, monkeypatch):
    """As if on another machine: on this one it is seen that its process is dead."""
    ds, store = dataset(acquisition), f"{bucket}/part.zarr"
    options: dict[str, Any] = {"levels": 2, "chunks": {"z": 1}}
    words = ("--levels", "2", "--chunks", "z=1", "--part")
    with start(acquisition, store, *words, "1/2") as part:
        while not note_of(store).get("shared"):
            time.sleep(0.05)
        part.kill()
    killed = time.time()
    monkeypatch.setattr("xarray_tiffstack.ome_zarr.lease.socket.gethostname", lambda: "another")
    assert convert(ds, store, Options(**options), part="2/2").left  # that this ends is no matter
    with pytest.raises(BlockingIOError, match=rf"\(a part, process {part.pid} on"):
        to_ome_zarr(ds, store, **options)
    monkeypatch.setattr("xarray_tiffstack.ome_zarr.lease.STALE", 0.5)
    while time.time() < killed + 1:
        time.sleep(0.05)
    to_ome_zarr(ds, store, **options)
    assert notes_at(bucket, "part.zarr") == []
    to_ome_zarr(ds, f"{bucket}/part-alone.zarr", **options)
    assert objects("part.zarr") == objects("part-alone.zarr")


def test_a_part_that_slept_stops_when_it_was_taken_over(acquisition, bucket, monkeypatch):
    monkeypatch.setattr("xarray_tiffstack.ome_zarr.lease.BEAT", 60)
    store = f"{bucket}/asleep.zarr"
    with pytest.raises(BlockingIOError, match="took over"), locked(store, shared=True) as part:  # noqa: PT012
        part.share()
        with monkeypatch.context() as later:
            later.setattr("xarray_tiffstack.ome_zarr.lease.STALE", 0)
            with locked(store) as other:
                other.require(look=True)
        part.require(look=True)
    assert notes_at(bucket, "asleep.zarr") == []


def test_parts_and_conversions_are_never_at_work_together(bucket):
    """Parts that begin and end in the same moments as conversions: each sees the others."""
    store, present, guard = f"{bucket}/crowd.zarr", Counter[str](), threading.Lock()
    met: Counter[str] = Counter()

    def at_work(kind: str, rng: random.Random) -> None:
        with guard:
            present[kind] += 1
            met[kind] += 1
            assert present["alone"] == 0 or present.total() == 1
        time.sleep(rng.random() / 10)
        with guard:
            present[kind] -= 1

    def part(number: int) -> None:
        rng, done = random.Random(number), 0
        while done < 2:
            try:
                with locked(store, shared=True) as lock:
                    at_work("alone" if lock.alone else "part", rng)
                    lock.share()
                    at_work("part", rng)
                    done += 1
            except BlockingIOError:
                time.sleep(rng.random() / 10)

    def conversion(number: int) -> None:
        rng = random.Random(number)
        for _ in range(8):
            time.sleep(rng.random() / 10)
            try:
                with locked(store):
                    at_work("alone", rng)
            except BlockingIOError:
                met["refused"] += 1

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(part, n) for n in range(4)]
        done += [pool.submit(conversion, n) for n in range(4)]
        for each in done:
            each.result()
    assert met["part"] >= 8
    assert met["alone"]
    assert met["refused"]
    assert notes_at(bucket, "crowd.zarr") == []

"""A store that grows while somebody else writes the files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
import zarr
from conftest import pixels, reference_name, to_ome_zarr, validate, write, write_acquisition

from xarray_tiffstack.ome_zarr import verify
from xarray_tiffstack.ome_zarr.growth import Growth, grow
from xarray_tiffstack.ome_zarr.images import collect
from xarray_tiffstack.ome_zarr.plan import Plan
from xarray_tiffstack.ome_zarr.settings import Options, make_settings
from xarray_tiffstack.ome_zarr.store import Store
from xarray_tiffstack.watch import follow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POLL = 0.05
ORDER = [(ch, stack) for stack in range(5) for ch in range(3)]


def planned(ds: xr.Dataset, **options: Any) -> Plan:
    collection = collect(ds)
    return Plan(collection, make_settings(collection, Options(**options)))


class Microscope(threading.Thread):
    """Writes copies of files into a folder, in some order, slowly and in pieces."""

    def __init__(self, made: Path, raw: Path, order: list[tuple[int, int]]) -> None:
        super().__init__()
        raw.mkdir(exist_ok=True)
        self.made, self.raw, self.order = made, raw, order

    def run(self) -> None:
        for ch, stack in self.order:
            name = reference_name(ch, stack)
            data = (self.made / name).read_bytes()
            with (self.raw / name).open("wb") as file:
                for at in range(0, len(data), 200):
                    file.write(data[at : at + 200])
                    file.flush()
                    time.sleep(POLL / 5)


class Reader(threading.Thread):
    """Opens the store over and over, and compares what is there with what it should be."""

    def __init__(self, store: Path) -> None:
        super().__init__()
        self.store, self.done = store, threading.Event()
        self.seen: list[int] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        while not self.done.is_set():
            try:
                self.look()
            except Exception as error:
                if self.seen:  # it is begun with its first two time points
                    self.wrong.append(repr(error))

    def look(self) -> None:
        tree = xr.open_datatree(self.store, engine="zarr", chunks=None, consolidated=True)
        ds = tree["0"].to_dataset().load()
        if self.seen and ds.sizes["stack"] < self.seen[-1]:
            self.wrong.append("the store became shorter")
        self.seen.append(ds.sizes["stack"])
        self.compare(ds)
        self.compare(xr.open_zarr(self.store, group="0", chunks=None).load())  # by the side door
        # A viewer, which knows nothing of labels, finds all of each file or nothing.
        for stack, channels in enumerate(zarr.open_array(self.store / "0/image", mode="r")[:]):
            for channel, found in enumerate(channels):
                if found.any() and not np.array_equal(found, pixels(channel * 5 + stack)):
                    self.wrong.append(f"half of stack {stack}, channel {channel}")

    def compare(self, ds: xr.Dataset) -> None:
        for stack, channel in zip(*np.nonzero(ds.present.values), strict=True):
            expected = pixels(channel * 5 + ds["stack"][stack].item())
            if not np.array_equal(ds.image[stack, channel], expected):
                self.wrong.append(f"other pixels in stack {stack}, channel {channel}")


def followed(tmp_path: Path, order: list[tuple[int, int]], **options: Any) -> Reader:
    """Follow a microscope with somebody reading meanwhile."""
    made = write_acquisition(tmp_path / "made")
    microscope = Microscope(made, tmp_path / "raw", order)
    reader = Reader(tmp_path / "store.zarr")
    microscope.start()
    reader.start()
    try:
        follow(tmp_path / "raw", tmp_path / "store.zarr", poll=POLL, **options)
    finally:
        microscope.join()
        reader.done.set()
        reader.join()
    return reader


def assert_like_converted_afterwards(tmp_path: Path, **options: Any) -> None:
    validate(tmp_path / "store.zarr")
    ds = xr.open_dataset(tmp_path / "raw", engine="tiffstack")
    to_ome_zarr(ds, tmp_path / "afterwards.zarr", **options)
    found, expected = (
        xr.open_datatree(tmp_path / name, engine="zarr")
        for name in ("store.zarr", "afterwards.zarr")
    )
    for level in ("0", "1"):
        xr.testing.assert_identical(found[level].to_dataset(), expected[level].to_dataset())
    blocks = [tree.attrs.get("ome", tree.attrs) for tree in (found, expected)]
    assert blocks[0]["multiscales"] == blocks[1]["multiscales"]
    assert found.attrs["tiffstack"]["state"] == "complete"


def shuffled(order: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Put some files of each time point behind those of the next."""
    late = [cell for cell in order if sum(cell) % 3 == 0]
    return sorted(order, key=lambda cell: cell[1] + (1.5 if cell in late else 0))


@pytest.mark.parametrize(
    ("arrange", "options"),
    [
        pytest.param(list, {}, id="in order"),
        pytest.param(shuffled, {}, id="out of order"),
        pytest.param(shuffled, {"ngff_version": "0.4"}, id="0.4"),
        pytest.param(shuffled, {"ngff_version": "0.6"}, id="0.6"),
        pytest.param(shuffled, {"shards": "auto", "chunks": {"z": 2}}, id="shards"),
    ],
)
def test_grows_and_ends_like_a_conversion_afterwards(
    tmp_path: Path,
    arrange: Callable[[list[tuple[int, int]]], list[tuple[int, int]]],
    options: dict[str, Any],
) -> None:
    reader = followed(tmp_path, arrange(ORDER), expected=15, levels=2, **options)
    assert not reader.wrong
    assert len(set(reader.seen)) > 1
    assert_like_converted_afterwards(tmp_path, levels=2, **options)


def test_another_layout_is_converted_at_the_end(tmp_path: Path) -> None:
    by_channel = sorted(ORDER)
    followed(tmp_path, by_channel, expected=15, levels=2)
    assert_like_converted_afterwards(tmp_path, levels=2)


def test_a_file_that_never_comes(tmp_path: Path) -> None:
    reader = followed(tmp_path, [c for c in ORDER if c != (1, 2)], until_idle=1.5, levels=2)
    assert not reader.wrong
    assert_like_converted_afterwards(tmp_path, levels=2)


COMMAND = """
import sys
from xarray_tiffstack import cli, watch
watch.follow.__kwdefaults__["poll"] = 0.05
args = cli.make_parser().parse_args()
sys.exit(args.run(args))
"""


def test_killed_and_begun_again_then_ended_by_a_signal(tmp_path: Path) -> None:
    made = write_acquisition(tmp_path / "made")
    raw, store = tmp_path / "raw", tmp_path / "store.zarr"
    command = [sys.executable, "-c", COMMAND, "convert", raw, store, "--follow", "--levels", "2"]
    for stacks, number in ((3, signal.SIGKILL), (5, signal.SIGTERM)):
        Microscope(made, raw, [c for c in ORDER if c[1] < stacks]).run()
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and _stacks(store) < stacks:
                time.sleep(0.1)
            process.send_signal(number)
            out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert "15 files" in out
    assert_like_converted_afterwards(tmp_path, levels=2)


def _stacks(store: Path) -> int:
    """Time points that readers see."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return xr.open_datatree(store, engine="zarr", chunks=None)["0"].sizes["stack"]
    except (FileNotFoundError, KeyError):
        return 0


def test_a_collection_grows(tmp_path: Path) -> None:
    for i, (p, t) in enumerate(product(range(2), range(4))):
        write(tmp_path / "raw" / f"a_p{p}_t{t}.tif", i)
    pattern = "a_p{position:d}_t{t:d}.tif"
    ds = xr.open_dataset(tmp_path / "raw", engine="tiffstack", pattern=pattern)
    store, afterwards = tmp_path / "store.zarr", tmp_path / "afterwards.zarr"
    xml = store / "OME" / "METADATA.ome.xml"
    growth = Growth(store, Options())
    for length in (2, 3):
        growth.take(ds.isel(t=slice(length)))
        assert xml.read_text().count(f'SizeT="{length}"') == 2
    to_ome_zarr(ds.isel(t=slice(3)), afterwards)
    to_ome_zarr(ds.isel(t=slice(3)), store)
    assert xml.read_bytes() == (afterwards / "OME" / "METADATA.ome.xml").read_bytes()
    growth.take(ds)
    assert xml.read_text().count('SizeT="4"') == 2


@pytest.mark.parametrize("version", ["0.5", "0.4"])
@pytest.mark.parametrize("ended", [False, True])
def test_readers_see_one_state_while_arrays_grow(tmp_path: Path, ended: bool, version: Any) -> None:
    ds = xr.open_dataset(write_acquisition(tmp_path / "raw"), engine="tiffstack")
    store, first = tmp_path / "store.zarr", ds.isel(stack=slice(2))
    Growth(store, Options(ngff_version=version)).take(first)
    if ended:  # and then there is more all the same
        to_ome_zarr(first, store, ngff_version=version)
    assert grow(planned(ds, ngff_version=version), store)
    assert zarr.open_array(store / "0/image", mode="r").shape[0] == 5  # and the labels are two yet
    seen = first.transpose("stack", "channel", ...).load()
    for found in (xr.open_datatree(store, engine="zarr")["0"], xr.open_zarr(store, group="0")):
        assert dict(found.sizes) == dict(seen.sizes)
        np.testing.assert_array_equal(found.image, seen.image)


def test_another_store_is_refused_at_once(tmp_path: Path) -> None:
    raw = write_acquisition(tmp_path / "raw")
    other = write(tmp_path / "other" / "a_t0.tif", 0).parent
    write(other / "a_t1.tif", 1)
    store = tmp_path / "store.zarr"
    to_ome_zarr(xr.open_dataset(other, engine="tiffstack", pattern="a_t{t:d}.tif"), store)
    with pytest.raises(FileExistsError):
        follow(raw, store, poll=POLL, until_idle=60)
    follow(raw, store, poll=POLL, until_idle=0.2, overwrite=True)
    assert xr.open_datatree(store, engine="zarr")["0"].sizes["stack"] == 5


def test_nothing_ever_comes(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(FileNotFoundError):
        follow(tmp_path / "raw", tmp_path / "store.zarr", poll=POLL, until_idle=0.2)


def test_begun_by_following_and_ended_by_converting(tmp_path: Path) -> None:
    raw = write_acquisition(tmp_path / "raw")
    ds = xr.open_dataset(raw, engine="tiffstack")
    Store(planned(ds), tmp_path / "store.zarr").begin(overwrite=False, growing=True)
    begun = xr.open_datatree(tmp_path / "store.zarr", engine="zarr")["0"]
    assert not begun.present.any()  # there are no pixels yet
    to_ome_zarr(ds, tmp_path / "store.zarr")
    ended = xr.open_datatree(tmp_path / "store.zarr", engine="zarr")
    assert ended["0"].present.all()
    assert "growing" not in ended.attrs["tiffstack"]


def test_a_second_position_that_begins_later(tmp_path: Path) -> None:
    """Images of its own are no growth: all is converted again at the end, in the same store."""
    raw, store = tmp_path / "raw", tmp_path / "store.zarr"
    options: dict[str, Any] = {"pattern": "a_p{position:d}_t{time:d}.tif", "poll": POLL}
    for t in range(3):
        write(raw / f"a_p0_t{t}.tif", t)

    def second_position() -> None:
        while _times(store) < 3:
            time.sleep(POLL)
        for t in range(3):
            write(raw / f"a_p1_t{t}.tif", 3 + t)

    microscope = threading.Thread(target=second_position)
    microscope.start()
    follow(raw, store, expected=6, **options)
    microscope.join()
    for position, t in product(range(2), range(3)):
        found = zarr.open_array(store / f"{position}/0/image")[t]
        np.testing.assert_array_equal(found, pixels(3 * position + t))


def test_a_second_position_after_a_kill(tmp_path: Path) -> None:
    """The store was begun by a process that is gone, with one image; the same command ends it."""
    raw, store = tmp_path / "raw", tmp_path / "store.zarr"
    pattern = "a_p{position:d}_t{time:d}.tif"
    for t in range(3):
        write(raw / f"a_p0_t{t}.tif", t)
    ds = xr.open_dataset(raw, engine="tiffstack", pattern=pattern)
    Growth(store, Options()).take(ds)
    for t in range(3):
        write(raw / f"a_p1_t{t}.tif", 3 + t)
    follow(raw, store, pattern=pattern, poll=POLL, until_idle=0.3)
    assert zarr.open_array(store / "1/0/image")[2].max() == pixels(5).max()
    assert zarr.open_group(store).attrs["tiffstack"]["state"] == "complete"


def _times(store: Path) -> int:
    """Time points of the one image that is there."""
    try:
        return int(zarr.open_array(store / "0/image", mode="r").shape[0])
    except (FileNotFoundError, ValueError):
        return 0


def test_files_of_coarse_clocks(tmp_path: Path) -> None:
    """Size and time say nothing: files have room from the beginning, and pixels come later."""
    made, raw = write_acquisition(tmp_path / "made", stacks=3), tmp_path / "raw"
    raw.mkdir()

    def microscope() -> None:
        for path in sorted(made.iterdir(), key=lambda p: p.name.split("stack")[1]):
            data = path.read_bytes()
            with (raw / path.name).open("wb") as file:
                for at in range(0, len(data), 150):
                    file.write(data[at : at + 150])
                    file.flush()
                    os.utime(raw / path.name, (1, 1))
                    time.sleep(POLL / 4)

    thread = threading.Thread(target=microscope)
    thread.start()
    follow(raw, tmp_path / "store.zarr", expected=9, poll=POLL, levels=2)
    thread.join()
    assert_like_converted_afterwards(tmp_path, levels=2)
    ds = xr.open_dataset(raw, engine="tiffstack")
    assert verify(ds, tmp_path / "store.zarr").ok

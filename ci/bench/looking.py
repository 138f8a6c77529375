"""What it takes to look at raw files: a page, a browser, a server, napari."""

from __future__ import annotations

import queue
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import numpy as np
import xarray as xr

from bench import peers
from bench.measure import LIMIT, OURS, Race, Row, bytes_read, spell

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.data import Workshop

SIZE = (1200, 800)
FLOOR = "the browser alone"  # the same requests, answered at once with the same pixels


def looking(shop: Workshop) -> Iterator[Row]:
    """Look at 3 channels x many stacks of camera-like pixels."""
    folder = shop.noisy_as("looking", shop.sized(199, 199, 15))
    ds = xr.open_dataset(folder, engine="tiffstack", voxel_size=(0.4, 0.1, 0.1))
    yield _preview(shop, ds)
    yield _served(shop, ds)
    if find_spec("napari") is not None:
        yield _napari(shop, ds)
    from test_viewers import CHROMIUM

    if CHROMIUM is not None and find_spec("neuroglancer") is not None:
        yield from _browser(shop, ds, "xy", "planes", (2.5, 0.7))
        yield from _browser(shop, ds, "4panel", "planes from three sides", (2.5, None))


def _bare(ds: xr.Dataset) -> list[Callable[[], bytes]]:
    """Read the middle plane of some stacks of each channel by one `pread` each."""
    every = ds["path"].transpose("channel", "stack").values
    stacks = np.linspace(0, every.shape[1] - 1, 8).round().astype(int)
    return [peers.plane_reader(path, ds.sizes["z"] // 2) for path in every[:, stacks].ravel()]


def _preview(shop: Workshop, ds: xr.Dataset) -> Row:
    reads, page = _bare(ds), shop.folder / "page.html"
    race = Race(
        {
            OURS: lambda: ds.tiffstack.preview().save(page),
            LIMIT: lambda: [read() for read in reads],
        },
        shop.rounds(5),
    )
    return Row(f"preview of {ds['path'].size} files", spell(race.seconds()), race)


def _served(shop: Workshop, ds: xr.Dataset) -> Row:
    from xarray_tiffstack.look.serve import Server

    reads = cycle(_bare(ds))
    with Server(ds) as server:
        level = server.served.pyramid.levels[0]
        z, *tiles = (range(-(-level.shape[d] // level.chunk[d])) for d in "zyx")
        planes = product(range(ds.sizes["stack"]), z)

        def plane() -> None:
            stack, z = next(planes)
            for y, x in product(*tiles):
                with urlopen(f"{server.url}/0/image/c/{stack}/0/{z}/{y}/{x}") as answer:
                    answer.read()

        plane()
        nbytes = bytes_read(plane) - 2 * level.shape["y"] * level.shape["x"]
        race = Race({OURS: plane, LIMIT: lambda: next(reads)()}, shop.rounds(15))
    return Row(
        "serve one plane", f"{spell(race.seconds())}; reads the plane {nbytes:+,} bytes", race
    )


def _napari(shop: Workshop, ds: xr.Dataset) -> Row:
    from napari.components import ViewerModel

    from xarray_tiffstack.look.napari import layers

    viewer: Any = ViewerModel()
    for data, about, _ in layers(ds):
        viewer.add_image(data, **about)
    steps, reads = cycle(range(ds.sizes["stack"])), cycle(_bare(ds))
    race = Race(
        {
            OURS: lambda: viewer.dims.set_current_step(0, next(steps)),
            LIMIT: lambda: [next(reads)() for _ in viewer.layers],
        },
        shop.rounds(15),
    )
    return Row("napari: a step of 3 channels", spell(race.seconds()), race)


# --- in a browser ---------------------------------------------------------------------------


def _browser(
    shop: Workshop, ds: xr.Dataset, layout: Any, what: str, wanted: tuple[float, float | None]
) -> Iterator[Row]:
    found: dict[str, list[tuple[float, list[float], int]]] = {OURS: [], FLOOR: []}
    for _ in range(1 if shop.small else 3):
        for name, measured in found.items():
            measured.append(_seen(ds, layout, floor=name == FLOOR, steps=1 if shop.small else 3))
    first = {name: statistics.median(begin for begin, _, _ in m) for name, m in found.items()}
    step = {
        name: statistics.median(t for _, times, _ in m for t in times) for name, m in found.items()
    }
    read = found[OURS][0][2] / 1e6
    for part, times, target in (("first picture", first, wanted[0]), ("a step", step, wanted[1])):
        yield Row(
            f"view, {what}: {part}",
            f"{spell(times[OURS])}, {FLOOR} {spell(times[FLOOR])}"
            + (f"; reads {read:,.1f} MB" if times is step else ", from the start of the browser"),
            target=f"{target} s" if target else "",
            reached=times[OURS] <= target if target else None,
        )


def _seen(
    ds: xr.Dataset, layout: Any, *, floor: bool, steps: int
) -> tuple[float, list[float], int]:
    """Seconds to the first picture and for steps of time; bytes that the last step reads."""
    from test_viewers import CHROMIUM, HEADLESS, PATIENCE

    from xarray_tiffstack.look.view import View

    taken: queue.Queue[Any] = queue.Queue()

    def wait() -> None:
        view.viewer.async_screenshot(taken.put)
        taken.get(timeout=PATIENCE)

    def next_step() -> None:
        with view.viewer.txn() as state:
            position = list(state.position)
            position[3] += 1
            state.position = position
        wait()

    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # chromium still writes
    with View(ds, layout) as view, folder as profile:
        if floor:
            _answer_at_once(view.server.served)
        with view.viewer.config_state.txn() as config:
            config.viewer_size = SIZE
        command = [str(CHROMIUM), *HEADLESS, f"--user-data-dir={profile}", view.url]
        begin = time.perf_counter()
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as browser:
            try:
                wait()
                first, times = time.perf_counter() - begin, []
                for _ in range(steps):
                    begin = time.perf_counter()
                    read = bytes_read(next_step)
                    times.append(time.perf_counter() - begin)
            finally:
                browser.terminate()
                browser.wait()
    return first, times, read


def _answer_at_once(served: Any) -> None:
    """Let a server answer with noise that it has already."""
    from xarray_tiffstack.look.served import Answer

    real, noise = served.get, np.random.default_rng(0).normal(100, 8, 2**21).astype("<u2")

    def get(key: str) -> Answer | None:
        if "/c/" not in key:
            return real(key)
        level = served.pyramid.levels[int(key.split("/")[0])]
        return Answer(noise[: int(np.prod(list(level.chunk.values())))].tobytes(), "noise")

    served.get = get

"""Stores shown by neuroglancer in a browser: the pixels on the screen, and where they are."""

from __future__ import annotations

import functools
import http.server
import queue
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import test_readers
from test_readers import levels, step, stores, write_collection, write_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

store = test_readers.store
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
HEADLESS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE = 180  # seconds for the browser to answer
ZOOM = 8  # pixels of the screen along the shortest side of a voxel
# Shows 16 bits as they are: the low ones in red, the high ones in green.
SHADER = """
void main() {
  uint value = toRaw(getDataValue());
  emitRGB(vec3(float(value & 255u), float(value >> 8), 0.0) / 255.0);
}
"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files to pages that come from elsewhere."""

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def address(store: test_readers.Store) -> Iterator[str]:
    """Where the store is served."""
    handler = functools.partial(Handler, directory=store.root)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def viewer(tmp_path: Path) -> Iterator[Any]:
    """neuroglancer, shown by a browser without a window."""
    neuroglancer = pytest.importorskip("neuroglancer")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    shown = neuroglancer.Viewer()
    command = [CHROMIUM, *HEADLESS, f"--user-data-dir={tmp_path / 'profile'}", str(shown)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as browser:
        yield shown
        browser.terminate()


def show(viewer: Any, source: str, render_scale: float) -> Any:
    """Show a layer of one image alone; returns the axes as neuroglancer understood them."""
    import neuroglancer

    with viewer.txn() as state:
        state.layout = "xy"
        state.show_axis_lines = state.show_scale_bar = state.show_default_annotations = False
        state.layers.clear()
        state.layers["image"] = neuroglancer.ImageLayer(
            source=source, shader=SHADER, opacity=1, cross_section_render_scale=render_scale
        )
    deadline = time.monotonic() + PATIENCE
    while not viewer.state.layers["image"].local_dimensions.names:  # the channels are its own
        assert time.monotonic() < deadline, "neuroglancer did not open the image"
        time.sleep(0.05)
    return viewer.state.dimensions


def picture(viewer: Any, position: list[float], channel: int, size: tuple[int, int]) -> np.ndarray:
    """Numbers of 16 bits on the screen when all of a plane has arrived."""
    with viewer.config_state.txn() as config:
        config.show_ui_controls = config.show_panel_borders = False
        config.viewer_size = size
    with viewer.txn() as state:
        state.display_dimensions = ["x", "y", "z"]  # by default the first three, time among them
        state.position, state.cross_section_scale = position, 1 / ZOOM
        state.layers["image"].local_position = [channel]
    taken: queue.Queue[Any] = queue.Queue()
    for _ in range(20):  # until the browser has heard of all that
        viewer.async_screenshot(taken.put)
        reply = taken.get(timeout=PATIENCE)
        found = reply.screenshot.image_pixels
        if found.shape[:2] == size[::-1] and reply.viewer_state == viewer.state:
            break
    red, green, *_ = np.moveaxis(found.astype(int), -1, 0)
    return red + 256 * green


def edges(middles: np.ndarray) -> np.ndarray:
    """Two positions in each pixel, a tenth of it away from its edges."""
    return (middles[:, None] + np.diff(middles[:2]) * [-0.4, 0.4]).ravel()


@stores(write_image, write_collection)
@pytest.mark.filterwarnings("ignore")  # another package's
def test_neuroglancer_shows_each_image(store, viewer, address):
    driver = "zarr3" if (store.root / "zarr.json").exists() else "zarr2"
    for path, image in store.images.items():
        full = levels(image)[0]
        steps = {d: step(full, d) for d in full.dims}
        finest = min(steps["y"], steps["x"])
        middle = {d: full[d].mean().item() for d in "yx"}
        size = tuple(round(full.sizes[d] * steps[d] / finest) * ZOOM for d in "xy")
        for level, expected in enumerate(levels(image)):
            source = f"{address}/{path}/|{driver}:".replace("//|", "/|")
            found = show(viewer, source, render_scale=1 if level == 0 else 64)
            assert list(found.names) == [d for d in full.dims if d != "channel"]
            units = {"stack": (1e-3, "s"), "time": (1, "")}
            for dim, scale, unit in zip(found.names, found.scales, found.units, strict=True):
                per, expected_unit = units.get(dim, (1e-6, "m"))
                assert (scale, unit) == (pytest.approx(steps[dim] * per), expected_unit)
            # Near both edges of each pixel of this level, and where these are on the screen.
            columns, rows = (
                ((edges(expected[d].values) - middle[d]) / finest * ZOOM + length / 2).astype(int)
                for d, length in zip("xy", size, strict=True)
            )
            # Every seventh plane is from each channel and each z, and takes less time than all.
            for t, c, z in [*np.ndindex(expected.shape[:3])][::7]:
                place = [t, z, middle["y"] / steps["y"], middle["x"] / steps["x"]]
                pixels = picture(viewer, place, c, size)[np.ix_(rows, columns)]
                wanted = expected.values[t, c, z].repeat(2, axis=0).repeat(2, axis=1)
                np.testing.assert_array_equal(pixels, wanted)

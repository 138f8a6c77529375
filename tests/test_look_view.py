"""neuroglancer as `view` sets it up, in a browser: colours, contrast, size, and missing files."""

from __future__ import annotations

import queue
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import xarray as xr
from conftest import reference_name
from test_viewers import CHROMIUM, HEADLESS, PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

neuroglancer = pytest.importorskip("neuroglancer")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.filterwarnings("ignore"),  # another package's
]
SIZE = (640, 480)


def screen(viewer: Any) -> np.ndarray:
    """Red, green and blue on the screen when all has arrived."""
    taken: queue.Queue[Any] = queue.Queue()
    viewer.async_screenshot(taken.put)
    return np.asarray(taken.get(timeout=PATIENCE).screenshot.image_pixels)[..., :3].astype(int)


def test_view(tmp_path: Path) -> None:
    from xarray_tiffstack.look.view import View

    # Each channel is bright in a third of the picture of its own.
    for ch, stack in ((0, 0), (1, 0), (2, 0), (0, 1), (1, 1)):
        volume = np.full((6, 60, 90), 100, "uint16")
        volume[:, :, 30 * ch : 30 * ch + 30] = 900
        path = tmp_path / "raw" / reference_name(ch, stack)
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, volume, photometric="minisblack", metadata=None)
    ds = xr.open_dataset(tmp_path / "raw", engine="tiffstack", voxel_size=(0.4, 0.1, 0.1))
    with View(ds) as view:
        names = [layer.name for layer in view.viewer.state.layers]
        assert names == ["488 nm", "560 nm", "642 nm", "642 nm: no file"]
        with view.viewer.config_state.txn() as config:
            config.show_ui_controls = config.show_panel_borders = False
            config.viewer_size = SIZE
        with view.viewer.txn() as state:
            state.show_axis_lines = state.show_scale_bar = state.show_default_annotations = False
        command = [CHROMIUM, *HEADLESS, f"--user-data-dir={tmp_path / 'profile'}", view.url]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as browser:
            try:
                screen(view.viewer)
                first = screen(view.viewer)
                dims = view.viewer.state.dimensions
                assert list(dims.names) == ["x", "y", "z", "stack"]
                np.testing.assert_allclose(dims.scales[:3], (1e-7, 1e-7, 4e-7))
                middle = first[first.shape[0] // 2]
                step = 800 / 90 * 30  # pixels of the screen to a third of the picture
                blue, green, red = (
                    middle[round(SIZE[0] / 2 + k * min(step, SIZE[0] / 3))] for k in (-1, 0, 1)
                )
                assert blue[2] > 200 > 100 > blue[0]  # 488 nm is cyan
                assert green[1] > 200 > 100 > green[2]  # 560 nm is green
                assert red[0] > 200 > 100 > red[2]  # 642 nm is red
                with view.viewer.txn() as state:
                    position = list(state.position)
                    position[3] += 1  # here the file of 642 nm is missing
                    state.position = position
                screen(view.viewer)
                third = screen(view.viewer)[:, -SIZE[0] // 6 :].reshape(-1, 3)
                striped = (third[:, 0] > 100).mean()  # stripes of a tenth
                assert 0.05 < striped < 0.3
            finally:
                browser.terminate()


def test_other_layouts_are_refused(shared_acquisition: Path) -> None:
    from xarray_tiffstack.look.view import View

    with pytest.raises(ValueError, match="'4panel'"):
        View(xr.open_dataset(shared_acquisition, engine="tiffstack"), "yz")  # type: ignore[arg-type]


def test_a_skewed_sphere_is_shown_round(tmp_path: Path) -> None:
    """Simulates a stage that moves a ball of 4 micrometers through a sheet tilted by 30 degrees."""
    from xarray_tiffstack.look.view import View

    angle, step, pixel = np.radians(30), 0.4, 0.2
    plane, y, x = np.meshgrid(np.arange(100) * step, np.arange(64) * pixel,
                              np.arange(128) * pixel, indexing="ij")  # fmt: skip
    height, along = -np.sin(angle) * x, plane + np.cos(angle) * x
    distance = sum((axis - axis.mean()) ** 2 for axis in (height, y, along))
    volume = np.where(distance < 4.0**2, 1000, 100).astype("uint16")
    tifffile.imwrite(tmp_path / reference_name(0, 0), volume, photometric="minisblack")
    ds = xr.open_dataset(
        tmp_path, engine="tiffstack", voxel_size=(step * np.sin(angle), pixel, pixel)
    )
    ds.image.attrs["stage_angle"] = 30.0
    with View(ds, "4panel", direction=1) as view:
        with view.viewer.config_state.txn() as config:
            config.show_ui_controls = config.show_panel_borders = False
            config.viewer_size = (800, 600)
        with view.viewer.txn() as state:
            state.show_axis_lines = state.show_scale_bar = state.show_default_annotations = False
        command = [CHROMIUM, *HEADLESS, f"--user-data-dir={tmp_path / 'profile'}", view.url]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as browser:
            try:
                screen(view.viewer)
                white = screen(view.viewer).min(axis=-1) > 200
            finally:
                browser.terminate()
    for panel in (white[:300, :400], white[:300, 400:], white[300:, 400:]):  # from three sides
        rows, columns = (np.flatnonzero(panel.any(axis=axis)) for axis in (1, 0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert width == pytest.approx(height, rel=0.1)
        assert panel.sum() == pytest.approx(np.pi / 4 * width * height, rel=0.05)
        assert width > 100

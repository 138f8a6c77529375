"""Make the pictures of docs/ from the acquisition that `tiffstack demo` writes.

    python ci/pictures.py [FOLDER]

Needs matplotlib, neuroglancer and chromium. FOLDER is where the pictures go, by default
docs/images; there is one of each layout of `tiffstack view`, more than the documentation shows.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagecodecs
import xarray as xr

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

from test_viewers import CHROMIUM, HEADLESS, PATIENCE  # noqa: E402

from xarray_tiffstack.demo import write_acquisition  # noqa: E402
from xarray_tiffstack.look.view import View  # noqa: E402

if TYPE_CHECKING:
    from xarray_tiffstack.look.view import Layout

SIZE = (1000, 660)
LAYOUTS: dict[str, Layout] = {"view": "xy", "view_4panel": "4panel", "view_3d": "3d"}
SHOWN = ("view", "view_3d")  # by docs/


def picture(ds: xr.Dataset, layout: Layout, profile: Path, **at: float) -> bytes:
    """Show a Dataset in a browser, and take a picture of what it draws."""
    taken: queue.Queue[Any] = queue.Queue()
    with View(ds, layout) as view:
        with view.viewer.config_state.txn() as config:
            config.viewer_size, config.show_ui_controls = SIZE, False
        with view.viewer.txn() as state:
            names = list(state.dimensions.names)
            state.position = [
                at.get(name, place) for name, place in zip(names, state.position, strict=True)
            ]
        command = [CHROMIUM, *HEADLESS, f"--user-data-dir={profile}", view.url]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as browser:
            try:
                for _ in range(2):  # on the first one a panel may still be moving
                    view.viewer.async_screenshot(taken.put)
                    shot = taken.get(timeout=PATIENCE).screenshot
            finally:
                browser.terminate()
    return bytes(shot.image)


def main() -> None:
    """Make all of them."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        raw = Path(folder, "raw")
        raw.mkdir()
        write_acquisition(raw)
        ds = xr.open_dataset(raw, engine="tiffstack")
        ds.attrs["source"] = "/data/raw"  # not a folder that has another name each time
        ds.tiffstack.preview().save(out / "preview.png")
        for name, layout in LAYOUTS.items():
            if name in SHOWN or len(sys.argv) > 1:
                png = picture(ds, layout, Path(folder, name), stack=6)
                smaller = imagecodecs.png_encode(imagecodecs.png_decode(png), 9)
                (out / f"{name}.png").write_bytes(smaller)


if __name__ == "__main__":
    main()

"""What a browser makes of the page of a preview: it draws it, and asks nobody for anything."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import imagecodecs
import pytest
import xarray as xr
from conftest import reference_name
from test_viewers import CHROMIUM, HEADLESS, PATIENCE

from xarray_tiffstack.look.preview import preview

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def drawn_by_browser(page: Path, folder: Path) -> tuple[np.ndarray, set[str]]:
    """Picture of a page, and every address that it asked for while it was shown."""
    command = [
        CHROMIUM, *HEADLESS, f"--user-data-dir={folder / 'profile'}", "--hide-scrollbars",
        "--window-size=1200,1600", f"--screenshot={folder / 'page.png'}",
        f"--log-net-log={folder / 'net.json'}", page.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=PATIENCE, capture_output=True)
    log = json.loads((folder / "net.json").read_text())
    # What the browser asks for of its own accord, as its updates, has no origin.
    said = [event.get("params", {}) for event in log["events"]]
    asked = {p["url"] for p in said if p.get("initiator", "not an origin") != "not an origin"}
    return imagecodecs.imread(folder / "page.png"), asked


def count(picture: np.ndarray, colour: str) -> int:
    """Pixels of exactly one colour."""
    rgb = [int(colour[i : i + 2], 16) for i in (0, 2, 4)]
    return int((picture[..., :3] == rgb).all(axis=-1).sum())


def test_page(acquisition: Path, tmp_path: Path) -> None:
    (acquisition / reference_name(2, 3)).unlink()
    (acquisition / reference_name(1, 2)).write_bytes(b"disk full")
    (acquisition / reference_name(0, 1)).write_bytes(b"")
    with pytest.warns(UserWarning, match="1 of 14 files missing, because empty"):
        ds = xr.open_dataset(acquisition, engine="tiffstack")
    page = tmp_path / "page.html"
    shown = preview(ds)
    shown.save(page)
    picture, asked = drawn_by_browser(page, tmp_path)
    assert asked == set()
    square = count(picture, "37a868") / 13  # those of 12 files, and of the legend
    assert 100 < square < 150
    assert count(picture, "d33a2c") > 1.5 * square  # empty: in the map and in the legend, at least
    assert count(picture, "5c1410") > 50 * 50  # the picture that cannot be read
    # The last stack is the brightest: its colour is that of the page's picture.
    brightest = shown.drawn[0][-1]
    assert brightest is not None
    top = brightest.reshape(-1, 3).max(axis=0)
    assert count(picture, bytes(top.tolist()).hex()) > 20


def test_the_log_would_tell(tmp_path: Path) -> None:
    """A page that does ask somebody is found out."""
    page = tmp_path / "page.html"
    page.write_text("<img src='http://127.0.0.1:9/a.png'>")
    _, asked = drawn_by_browser(page, tmp_path)
    assert asked == {"http://127.0.0.1:9/a.png"}

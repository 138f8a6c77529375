"""What the commands that look at a source do, and what they print."""

from __future__ import annotations

import contextlib
import getpass
import json
import math
import os
import shutil
import socket
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import xarray as xr

    from xarray_tiffstack.look.view import Layout
    from xarray_tiffstack.ome_zarr.skew import Direction


def show_preview(
    ds: xr.Dataset,
    out: str | None = None,
    *,
    open_it: bool = False,
    keywords: Mapping[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Write the preview of a Dataset, and print its verdict and where it is.

    Parameters
    ----------
    ds
        What was opened.
    out
        File to write; by default ``NAME_preview.html`` in the current folder.
    open_it
        Open it in a browser, where there is one to open.
    keywords
        What `ds` was opened with.
    options
        Those of ``ds.tiffstack.preview``.
    """
    from xarray_tiffstack.look.preview import preview

    shown = preview(ds, keywords=keywords, **options)
    path = Path(out if out is not None else f"{Path(shown.title).stem}_preview.html")
    shown.save(path)
    for line in shown.verdict:
        print(line)
    print(path)
    if open_it:
        open_in_browser(path.resolve().as_uri())
    return path


def open_in_browser(address: str) -> bool:
    """Open an address where the user sees it: not over ssh, and not in a text browser."""
    import webbrowser

    has_screen = sys.platform in ("win32", "darwin") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    return has_screen and "SSH_CONNECTION" not in os.environ and webbrowser.open(address)


def show_info(
    ds: xr.Dataset, *, verbose: bool = False, keywords: Mapping[str, Any] | None = None
) -> None:
    """Print what a Dataset is and what is not as it should be, cut at the terminal's width."""
    from xarray_tiffstack.look.report import make_report

    on_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_terminal else None
    colour = on_terminal and "NO_COLOR" not in os.environ
    print(make_report(ds, keywords).text(width=width, verbose=verbose, colour=colour))


def serve_until_interrupted(ds: xr.Dataset, source: Sequence[str], host: str, port: int) -> None:
    """Serve a Dataset, and print its address and how viewers open it."""
    from xarray_tiffstack.look.serve import Server

    name = Path(source[0]).resolve().stem or "raw"
    with _until_interrupted(), Server(ds, f"{name}.zarr", host=host, port=port) as server:
        print(f"{server.url}  (Ctrl-C ends)\n{server.ways_in()}", flush=True)
        print(f"from elsewhere  {ssh_line(server.port)}", flush=True)
        _forever.wait()


def view_until_interrupted(ds: xr.Dataset, layout: Layout, browser: bool, **options: Any) -> None:
    """Show a Dataset in neuroglancer, and print its address."""
    from xarray_tiffstack.look.view import View

    with _until_interrupted(), View(ds, layout, **options) as view:
        print(f"{view.url}  (Ctrl-C ends)\nfrom elsewhere  {ssh_line(*view.ports)}", flush=True)
        if browser:
            open_in_browser(view.url)
        _forever.wait()


def show_in_napari(ds: xr.Dataset, layout: Layout, direction: Direction | None) -> None:
    """Show a Dataset in napari, until its window is closed."""
    from xarray_tiffstack.look.napari import start

    start(ds, layout, direction=direction)


def ssh_line(*ports: int) -> str:
    """Write the command that makes ports reachable from the computer that one sits at."""
    forwards = " ".join(f"-L {port}:127.0.0.1:{port}" for port in ports)
    return f"ssh {forwards} {getpass.getuser()}@{socket.gethostname()}"


_until_interrupted = partial(contextlib.suppress, KeyboardInterrupt)
_forever = threading.Event()  # that is never set


def show_json(ds: xr.Dataset) -> None:
    """Print what a Dataset is, and its report, as JSON."""
    from xarray_tiffstack.look.report import make_report

    facts = {**describe(ds), "report": make_report(ds).as_dict()}
    print(json.dumps(facts, indent=2, default=str))


def describe(ds: xr.Dataset) -> dict[str, Any]:
    """Facts about an opened Dataset, as JSON takes them."""
    image = ds["image"]
    time = None
    if "time" in ds.coords and ds["time"].dtype.kind in "iuf":
        units = ds["time"].attrs.get("units", "")
        time = [ds["time"].min().item(), ds["time"].max().item(), units]
    chunk = image.data.chunksize
    return {
        "sizes": {str(d): n for d, n in image.sizes.items()},
        "labels": {str(d): image[d].values.tolist() for d in image.dims if d in image.coords},
        "dtype": str(image.dtype),
        "bytes": image.nbytes,
        "chunk": list(chunk),
        "chunks": image.data.npartitions,
        "chunk_bytes": image.dtype.itemsize * math.prod(chunk),
        "time": time,
    }

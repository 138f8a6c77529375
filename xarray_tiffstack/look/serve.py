"""A Dataset as OME-Zarr over HTTP, for viewers on this computer or elsewhere.

Nothing is written, and no address leads to a file: a request is looked up among the keys of
`served.Served`, which know only the pixels of the Dataset.
"""

from __future__ import annotations

import http.server
import ipaddress
import json
import secrets
import socket
import threading
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from xarray_tiffstack.look.served import Served, ServedError

if TYPE_CHECKING:
    import xarray as xr

    from xarray_tiffstack.look.pyramid import Seen


class Server(AbstractContextManager["Server"]):
    """Serves a Dataset until it is closed; a context manager.

    Parameters
    ----------
    ds
        The Dataset.
    name
        Name of the store in its address.
    host
        Address of this computer to listen at. At any other than its own loopback, addresses hold
        a secret that is drawn anew each time.
    port
        Port; 0 takes a free one.
    seen
        What its chunks are made for: "planes", planes from three "sides", or a "volume".

    Examples
    --------
    >>> import numpy as np, tifffile, xarray as xr, zarr
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> for t in (0, 1):
    ...     path = Path(folder.name, f"cell_t{t}.tif")
    ...     tifffile.imwrite(path, np.full((8, 8), t, "uint16"))
    >>> ds = xr.open_dataset(folder.name, engine="tiffstack", pattern="cell_t{t:d}.tif")
    >>> from urllib.request import urlopen
    >>> with Server(ds, "cell.zarr") as server, urlopen(f"{server.url}/zarr.json") as answer:
    ...     answer.status, b"multiscales" in answer.read()
    (200, True)
    >>> folder.cleanup()
    """

    def __init__(
        self,
        ds: xr.Dataset,
        name: str = "raw.zarr",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        seen: Seen = "planes",
    ) -> None:
        self.served = Served(ds, seen)
        self.name = quote(name, safe="")
        self.stores = {name: self.served}
        token = "" if is_loopback(host) else f"{secrets.token_urlsafe(16)}/"
        self.prefix = f"/{token}"
        self.http = _HTTPServer((host, port), _Handler)
        self.http.owner = self
        self.host = host
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    @property
    def port(self) -> int:
        """The port."""
        return int(self.http.server_address[1])

    @cached_property
    def address(self) -> str:
        """Where the stores are, without their names."""
        host = socket.gethostname() if self.host in ("", "0.0.0.0", "::") else self.host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}{self.prefix}"

    @property
    def url(self) -> str:
        """Address of the store."""
        return f"{self.address}{self.name}"

    def close(self) -> None:
        """End."""
        self.http.shutdown()
        self.http.server_close()
        for store in self.stores.values():
            store.close()

    def __exit__(self, *error: object) -> None:
        """End."""
        self.close()

    def get(self, path: str) -> tuple[Served, str] | None:
        """Split the path of a request into store and key; None where there is no such store."""
        path = urlsplit(path).path
        if not secrets.compare_digest(path[: len(self.prefix)].encode(), self.prefix.encode()):
            return None
        name, _, key = path[len(self.prefix) :].partition("/")
        store = self.stores.get(unquote(name))
        return None if store is None else (store, unquote(key))

    def ways_in(self) -> str:
        """Say how viewers open it, a line for each."""
        state = {
            "layers": [{"name": "image", "type": "image", "source": f"{self.url}/|zarr3:"}],
            "layout": "xy",
        }  # the chunks are those of planes
        image = "" if "" in self.served.images else f"/{next(iter(self.served.images))}"
        ways = {
            "neuroglancer": f"https://neuroglancer-demo.appspot.com/#!{quote(json.dumps(state))}",
            "vizarr": f"https://hms-dbmi.github.io/vizarr/?source={self.url}",
            "napari": f"napari --plugin napari-ome-zarr {self.url}{image}",
            "Fiji": f"File > Import > HDF5/N5/Zarr/OME-NGFF ...: {self.url}{image}",
            "Python": f'xarray.open_zarr("{self.url}", group="{image.lstrip("/")}'
            f'{"/" if image else ""}0")',
        }
        return "\n".join(f"{name:>14}  {way}" for name, way in ways.items())


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches an address.

    Examples
    --------
    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "lab.org")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _HTTPServer(http.server.ThreadingHTTPServer):
    owner: Server
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a viewer that went away in the middle of an answer."""


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    server: _HTTPServer
    protocol_version = "HTTP/1.1"  # viewers ask for many chunks over one connection
    disable_nagle_algorithm = True
    wbufsize = 2**16

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        found = self.server.owner.get(self.path)
        if found is None:
            return self._send(404, b"there is nothing here\n", body=body)
        store, key = found
        known = self.headers.get("If-None-Match", "").strip('"')
        if known and known == store.tag(key):
            return self._send(304, b"", known, body=False)
        try:
            answer = store.get(key)
        except ServedError as error:  # never zeros in its place
            return self._send(500, f"{error}\n".encode(), body=body)
        if answer is None:
            return self._send(404, b"there is nothing here\n", body=body)
        if known == answer.tag:
            return self._send(304, b"", known, body=False)
        kind = "application/json" if key.endswith("zarr.json") else "application/octet-stream"
        return self._send(200, answer.body, answer.tag, kind, body=body)

    def _send(
        self, status: int, content: bytes, tag: str = "", kind: str = "text/plain", *, body: bool
    ) -> None:
        self.send_response(status)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Cache-Control", "no-cache")  # ask whether the tag is still the same
        self.send_header("X-Content-Type-Options", "nosniff")
        if tag:
            self.send_header("ETag", f'"{tag}"')
        if status != 304:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

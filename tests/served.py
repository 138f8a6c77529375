"""A folder that an HTTP server of this machine serves by ranges of bytes."""

from __future__ import annotations

import re
import threading
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from pathlib import Path


class Served:
    """Serves a folder; `url` is its address.

    ``etags=False`` tells no state of a file, as some servers do; ``ranges=False`` always sends
    all of it.
    """

    def __init__(self, folder: Path, *, etags: bool = True, ranges: bool = True) -> None:
        class Handler(_Handler):
            root, tells, cuts = folder, etags, ranges

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Handler(BaseHTTPRequestHandler):
    root: Path
    tells: bool
    cuts: bool
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path = self.root / unquote(self.path).lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        state = path.stat()
        start, stop = 0, state.st_size
        etag = f'"{state.st_mtime_ns:x}-{state.st_size:x}"'
        match, since = self.headers.get("If-Match"), self.headers.get("If-Unmodified-Since")
        late = since and int(state.st_mtime) > parsedate_to_datetime(since).timestamp()
        if self.tells and ((match and match != etag) or late):
            self.send_response(412)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and self.cuts:
            start, stop = int(asked[1]), min(int(asked[2] or stop) + 1, stop)
            self.send_response(206 if start < stop else 416)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{state.st_size}")
        else:
            self.send_response(200)
        if self.tells:
            self.send_header("ETag", etag)
            self.send_header("Last-Modified", self.date_time_string(int(state.st_mtime)))
        self.send_header("Content-Length", str(max(0, stop - start)))
        self.end_headers()
        if self.command != "HEAD":
            with path.open("rb") as file:
                file.seek(start)
                self.wfile.write(file.read(max(0, stop - start)))

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass

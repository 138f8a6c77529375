"""An HTTP proxy between a reader and a server: it counts, takes its time, and fails when told to.

``python tests/proxy.py PORT SERVER_PORT SECONDS`` runs it alone, for measurements.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FAULTS = ("500", "503", "reset", "short", "silent")


@dataclass
class Request:
    """One request, as it came."""

    method: str
    path: str
    range: str
    if_match: str
    nbytes: int = 0
    fault: str = ""


class Proxy:
    """Passes requests to a server of this machine; `fault` says what goes wrong with each.

    ``"500"`` and ``"503"`` answer so; ``"reset"`` cuts the connection before the answer,
    ``"short"`` in the middle of its body; ``"silent"`` never answers.
    """

    def __init__(self, server: int, delay: float = 0, port: int = 0) -> None:
        self.server, self.delay = server, delay
        self.requests: list[Request] = []
        self.fault: Callable[[Request], str | None] = lambda request: None
        self.now = self.most = 0
        self.given: Counter[str] = Counter()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        start = asyncio.start_server(self._connected, "127.0.0.1", port, limit=1 << 20)
        self.listening = asyncio.run_coroutine_threadsafe(start, self.loop).result()
        self.port = self.listening.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def nbytes(self) -> int:
        """Bytes of all bodies that were sent."""
        return sum(request.nbytes for request in self.requests)

    def clear(self) -> None:
        self.requests.clear()
        self.most = 0

    def close(self) -> None:
        async def end() -> None:
            self.listening.close()
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self.server, limit=1 << 20)
            try:
                while await self._pass(reader, writer, *upstream):
                    pass
            finally:
                upstream[1].close()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        from_server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> bool:
        """Pass one request and its answer; whether the connection goes on."""
        head, fields = await _head(reader)
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        request = Request(method, path, fields.get("range", ""), fields.get("if-match", ""))
        if "expect" in fields:  # who writes waits until it may
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            lines = head.split(b"\r\n")
            head = b"\r\n".join(line for line in lines if not line.lower().startswith(b"expect:"))
        body = await _body(reader, fields)
        self.requests.append(request)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.delay)
            request.fault = self.fault(request) or ""
            self.given[request.fault] += 1
            if request.fault == "silent":
                await reader.read()  # until who asks has had enough
                return False
            if request.fault == "reset":
                writer.transport.abort()
                return False
            if request.fault in ("500", "503"):
                text = b"<Error><Code>SlowDown</Code></Error>"
                start = f"HTTP/1.1 {request.fault} Not now\r\nContent-Length: {len(text)}\r\n\r\n"
                writer.write(start.encode() + text)
                await writer.drain()
                return True
            to_server.write(head + body)
            await to_server.drain()
            answer, fields = await _head(from_server)
            length = int(fields.get("content-length", 0))
            empty = method == "HEAD" or answer.split(b" ", 2)[1] in (b"304", b"204")
            found = b"" if empty else await _body(from_server, fields)
            if request.fault == "short" and length:
                writer.write(answer + found[: len(found) // 2])
                await writer.drain()
                writer.transport.abort()
                return False
            request.nbytes = len(found)
            writer.write(answer + found)
            await writer.drain()
            return fields.get("connection", "").lower() != "close" and b"HTTP/1.0" not in answer[:9]
        finally:
            self.now -= 1


async def _head(reader: asyncio.StreamReader) -> tuple[bytes, dict[str, str]]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return head, {name.lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    """Body as it is on the wire."""
    if fields.get("transfer-encoding") == "chunked":
        parts = []
        while True:
            line = await reader.readuntil(b"\r\n")
            chunk = await reader.readexactly(int(line, 16) + 2)
            parts += [line, chunk]
            if chunk == b"\r\n":
                return b"".join(parts)
    return await reader.readexactly(int(fields.get("content-length", 0)))


if __name__ == "__main__":
    port, server, delay = sys.argv[1:]
    proxy = Proxy(int(server), float(delay), int(port))
    proxy.thread.join()

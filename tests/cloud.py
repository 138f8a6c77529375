"""Servers of objects on this machine; above all that of S3 which moto brings."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT: list[Any] = []  # by `forget`
MOTO = shutil.which("moto_server", path=str(Path(sys.executable).parent))


@contextmanager
def running(program: str, *words: str, told: Any = subprocess.DEVNULL) -> Iterator[int]:
    """Run a server, of whose words PORT is replaced; gives its port. Its log goes to `told`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, *(word.replace("PORT", str(port)) for word in words)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told) as server:
        try:
            wait_for(port, program)
            yield port
        finally:
            server.terminate()


@contextmanager
def moto(told: Any = subprocess.DEVNULL) -> Iterator[int]:
    """Run a server of S3 without buckets; gives its port."""
    if MOTO is None:
        pytest.skip("moto_server is not installed")
    with running(MOTO, "-H", "127.0.0.1", "-p", "PORT", told=told) as port:
        yield port


@contextmanager
def serving(log: Path) -> Iterator[str]:
    """Address of the bucket, which the environment leads to; the server tells of each request."""
    s3fs = pytest.importorskip("s3fs")
    with pytest.MonkeyPatch.context() as patch, log.open("w") as told, moto(told) as port:
        endpoint = f"http://127.0.0.1:{port}"
        about = {
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
        }
        for name, value in about.items():
            patch.setenv(name, value)
        forget(s3fs.S3FileSystem)  # of another server, in tests before
        s3fs.S3FileSystem(endpoint_url=endpoint, key="a", secret="b").mkdir("bucket")
        yield "s3://bucket"
        forget(s3fs.S3FileSystem)  # those that the environment led here, in tests behind


def forget(kind: Any) -> None:
    """Have file systems of fsspec be made anew, for another server.

    Those that there are stay alive: their open sessions would warn in whatever test they are
    collected in.
    """
    KEPT.extend(kind._cache.values())
    kind.clear_instance_cache()


def wait_for(port: int, program: str) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, f"{program} did not begin"
            time.sleep(0.1)
        else:
            return


def objects(prefix: str, *, names: bool = False) -> dict[str, bytes]:
    """Objects in the bucket, by their keys below a prefix."""
    import s3fs

    cloud = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"], key="a", secret="b")
    cloud.invalidate_cache()
    found = cloud.find(f"bucket/{prefix}")
    start = f"bucket/{prefix}/"
    return {path.removeprefix(start): b"" if names else cloud.cat(path) for path in found}

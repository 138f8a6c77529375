"""What a URL says: which server or bucket it is of, and which object there."""

from __future__ import annotations

import os
from typing import NamedTuple, TypeGuard
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

KINDS = {
    "s3": "s3", "s3a": "s3",
    "gs": "gs", "gcs": "gs",
    "az": "az", "azure": "az", "abfs": "az", "abfss": "az", "adl": "az",
    "http": "http", "https": "http",
    "memory": "memory",
}  # fmt: skip


_OUTSIDE = {"http": "server", "memory": "folder"}


class Address(NamedTuple):
    """A URL, taken apart."""

    kind: str
    """Who answers: "s3", "gs", "az", "http", or the "memory" of this process."""
    base: str
    """The server, or the bucket: the beginning of the URL, to which "/" and the key are added."""
    key: str
    """The object in it, without a "/" at either end."""


def is_url(path: object) -> TypeGuard[str]:
    """Whether a source or the path of a file is a URL.

    Examples
    --------
    >>> is_url("s3://bucket/raw/"), is_url("/data/raw"), is_url("D:/raw")
    (True, False, False)
    """
    return isinstance(path, str) and "://" in path


def local_path(url: str) -> str | None:
    """Path of what is on this computer, as ``file://`` says; None of any other URL.

    Examples
    --------
    >>> local_path("file:///data/my%20raw/a.tif"), local_path("s3://bucket/a.tif")
    ('/data/my raw/a.tif', None)
    """
    parts = urlsplit(url)
    if parts.scheme.lower() != "file":
        return None
    if parts.netloc not in ("", "localhost"):
        raise ValueError(f"{url} is on another computer, {parts.netloc}: give a path of this one")
    return url2pathname(parts.path)


def split(url: str) -> Address:
    """Take a URL apart.

    Raises
    ------
    ValueError
        It is of a kind that is not read, or has a password or a query in it.

    Examples
    --------
    >>> split("s3://bucket/raw/a b.tif")
    Address(kind='s3', base='s3://bucket', key='raw/a b.tif')
    >>> split("https://example.org:8080/raw/a%20b.tif")
    Address(kind='http', base='https://example.org:8080', key='raw/a b.tif')
    >>> split("memory://raw/a.tif")
    Address(kind='memory', base='memory:/', key='raw/a.tif')
    """
    scheme, _, rest = url.partition("://")
    kind = KINDS.get(scheme.lower())
    if kind is None:
        raise ValueError(
            f"{scheme}:// is not read: a URL begins with s3, gs, az, https, file or memory"
        )
    if kind == "memory":
        rest = rest.strip("/")
    server, _, key = rest.partition("/")
    if not server:
        raise ValueError(f"{url} names no {_OUTSIDE.get(kind, 'bucket')}")
    if kind == "memory":
        return Address(kind, f"{scheme}:/", rest)
    if kind == "http":
        if "@" in server:
            raise ValueError("a URL with a password in it is not read: give storage_options=")
        if "?" in key:
            raise ValueError(f"a URL with a query is not read: {url.partition('?')[0]}?...")
        key = unquote(key.partition("#")[0])
    return Address(kind, f"{scheme}://{server}", key.strip("/"))


def joined(folder: str, path: str) -> str:
    """Path of a file, as one below a folder or on its own.

    Examples
    --------
    >>> joined("s3://bucket/raw", "s3://bucket/raw/a.tif"), joined("s3://bucket/raw", "a.tif")
    ('s3://bucket/raw/a.tif', 's3://bucket/raw/a.tif')
    """
    if is_url(path):
        return path
    return f"{folder.rstrip('/')}/{path}" if is_url(folder) else os.path.join(folder, path)

"""An index as a repository of icechunk: references, real chunks, and a commit for each state."""

from __future__ import annotations

import asyncio
import datetime
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np
from zarr.buffer.cpu import Buffer

from xarray_tiffstack.index.files import whole_second
from xarray_tiffstack.storage import access_of, is_url, split

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from xarray_tiffstack.index.files import Files

CONTAINER = "raw"  # name that relative references begin with
OLDEST = (2, 3)
VIRTUAL = 2  # kind of a chunk that is a reference


def load() -> Any:
    """Import icechunk, or say how it is installed."""
    try:
        import icechunk
    except ImportError:
        raise ImportError(
            'an index needs icechunk: pip install "xarray-tiffstack[index]" (Python 3.12 or newer)'
        ) from None
    if tuple(map(int, icechunk.__version__.split(".")[:2])) < OLDEST:
        raise ImportError(
            f"an index needs icechunk {'.'.join(map(str, OLDEST))} or newer, and this is "
            f'{icechunk.__version__}: pip install --upgrade "xarray-tiffstack[index]"'
        )
    if "ICECHUNK_LOG" not in os.environ:  # two warnings at each opening of a local repository
        icechunk.set_logs_filter("error")
    return icechunk


class Repository:
    """A repository in a local folder or at a URL, whose references begin at another one."""

    def __init__(self, place: str, root: str) -> None:
        self.icechunk = icechunk = load()
        if found := sorted(set("#?%") & set(root)):
            raise ValueError(
                f"icechunk cannot refer to files below {root}, for {' '.join(found)} in its name: "
                "rename the folder"
            )
        if is_url(place):
            bucket, prefix = _bucket(place)
            self._storage = icechunk.s3_storage(bucket=bucket, prefix=prefix, **_s3(place))
        else:
            self._storage = icechunk.local_filesystem_storage(place)
        self.place, self.prefix, store, access = place, *_container(icechunk, root)
        self._config = icechunk.RepositoryConfig.default()
        self._config.set_virtual_chunk_container(
            icechunk.VirtualChunkContainer(self.prefix, store, name=CONTAINER)
        )
        self._access = {self.prefix: access}

    def create(self) -> Any:
        """Make a new one."""
        return self.icechunk.Repository.create(self._storage, self._config, self._access)

    def open(self) -> Any:
        """Open one that is there; where its folder moved, references are read at the new place."""
        try:
            return self.icechunk.Repository.open(self._storage, self._config, self._access)
        except self.icechunk.IcechunkError as error:
            if not is_url(self.place):
                raise
            said = str(error).partition("\n")[0]
            raise OSError(
                f"{self.place} holds no index, or may not be read: give storage_options=, such as "
                f"key and secret, or anon ({said})"
            ) from error


def _bucket(url: str) -> tuple[str, str]:
    """Bucket of a URL, and the key in it."""
    address = split(url)
    if address.kind != "s3":
        raise ValueError(f"an index, and its files, are read on disks and at s3://, not at {url}")
    return address.base.partition("://")[2], address.key


def _container(icechunk: Any, root: str) -> tuple[str, Any, Any]:
    """Give the address of all files, how they are reached, and what allows it."""
    if not is_url(root):
        place = Path(root).as_posix()
        prefix = f"file://{place if place.startswith('/') else f'/{place}'}/"
        local = icechunk.local_filesystem_store(root)
        return prefix, local, icechunk.credentials.LocalFileSystemAccess
    bucket, key = _bucket(root)
    prefix = f"s3://{bucket}/{key}/" if key else f"s3://{bucket}/"
    options = _s3(root)
    names = ("access_key_id", "secret_access_key", "session_token", "anonymous", "from_env")
    keys = {name: options.pop(name) for name in names if name in options}
    options["anonymous"] = keys.get("anonymous", False)
    store = icechunk.s3_store(**options, s3_compatible="endpoint_url" in options)
    (access,) = icechunk.containers_credentials({prefix: icechunk.s3_credentials(**keys)}).values()
    return prefix, store, access


def _s3(url: str) -> dict[str, Any]:
    """How a bucket is reached, in icechunk's words."""
    given = access_of(url).named("s3")
    region = given.get("region") or os.environ.get("AWS_REGION")
    found: dict[str, Any] = {"region": region or os.environ.get("AWS_DEFAULT_REGION", "us-east-1")}
    if endpoint := given.get("endpoint"):
        found["endpoint_url"] = endpoint
        found["allow_http"] = str(endpoint).startswith("http://")
        found["force_path_style"] = not _is_true(given.get("virtual_hosted_style_request"))
    if _is_true(given.get("request_payer")):
        found["requester_pays"] = True
    keys = ("access_key_id", "secret_access_key", "session_token")
    if _is_true(given.get("skip_signature")):
        found["anonymous"] = True
    elif given.get("access_key_id"):
        found |= {name: given[name] for name in keys if given.get(name)}
    else:
        found["from_env"] = True
    return found


def _is_true(value: object) -> bool:
    return str(value).lower() in ("true", "1", "yes", "on", "requester")


def is_repository(path: Path) -> bool:
    """Whether a folder is a repository of icechunk."""
    return (path / "repo").is_file() and (path / "snapshots").is_dir()


def put(store: Any, made: Mapping[str, bytes], clear: bool) -> None:
    """Write keys to a session."""

    async def write() -> None:
        if clear:
            await store.clear()
        for key, data in made.items():
            await store.set(key, Buffer.from_bytes(data))

    _run(write)


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with ThreadPoolExecutor(1) as pool:  # a notebook has a loop of its own in this thread
        pool.submit(asyncio.run, work()).result()


class Targets:
    """The files as icechunk refers to them: an address, and a time or an ETag each."""

    def __init__(self, icechunk: Any, files: Files) -> None:
        self.icechunk, self.root = icechunk, files.root
        self.urls = [f"vcc://{CONTAINER}/{quote(name)}" for name in files.paths]
        count = len(files.paths)
        self.tags: list[str | None] = [f'"{tag}"' for tag in files.tags] or [None] * count
        self.times: list[datetime.datetime | None] = [None] * count
        if not files.tags:
            seconds = map(whole_second, files.times.tolist())
            self.times = [datetime.datetime.fromtimestamp(s, datetime.UTC) for s in seconds]

    def refer(
        self, store: Any, path: str, which: np.ndarray, offsets: np.ndarray, counts: np.ndarray
    ) -> None:
        """Set the references of one array, of whose chunks files, offsets and sizes are given."""
        places = np.argwhere(offsets >= 0)
        at = tuple(places.T)
        items = zip(
            places.tolist(),
            which[at].tolist(),
            offsets[at].tolist(),
            counts[at].tolist(),
            strict=True,
        )
        specs = [
            self.icechunk.VirtualChunkSpec(
                index, self.urls[k], offset, count, self.tags[k], self.times[k]
            )
            for index, k, offset, count in items
        ]
        if specs and store.set_virtual_refs(path, specs, validate_containers=True):
            raise ValueError(f"{self.root} is not the folder of all files")


def referred(
    store: Any, array: Any, prefix: str, names: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the references of one array: the number of the file, offset and size of each chunk.

    Parameters
    ----------
    store
        Of a session.
    array : zarr.Array
        The array.
    prefix
        Address of all files.
    names
        Name of each file below it -> its number.
    """
    grid = array.cdata_shape
    which, counts = np.full(grid, -1, np.int64), np.zeros(grid, np.int64)
    offsets = np.full(grid, -1, np.int64)

    async def read() -> None:
        async for at, kinds, paths, starts, sizes, _ in store.array_chunk_iterator(array.path):
            held = np.flatnonzero(kinds == VIRTUAL)
            place = tuple(at[held].T)
            which[place] = [names[unquote(paths[i].removeprefix(prefix))] for i in held.tolist()]
            offsets[place], counts[place] = starts[held], sizes[held]

    _run(read)
    return which, offsets, counts

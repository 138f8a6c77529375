"""Files in the memory of this process, ``memory://`` of fsspec, asked as obstore asks a bucket.

Of the methods of a store of obstore it has those that this package calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fsspec.implementations.memory import MemoryFileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class _Result(NamedTuple):
    """Some bytes of a file."""

    data: bytes
    meta: Mapping[str, Any]
    range: tuple[int, int]

    def stream(self, *, min_chunk_size: int) -> Iterator[bytes]:
        """Return them in pieces."""
        yield from (
            self.data[i : i + min_chunk_size] for i in range(0, len(self.data), min_chunk_size)
        )

    def bytes(self) -> bytes:
        """Return them."""
        return self.data


class Memory:
    """All files of fsspec's memory; any two of these are the same."""

    def __init__(self) -> None:
        self.files = MemoryFileSystem()

    def head(self, key: str) -> dict[str, Any]:
        """Size and state of a file."""
        try:
            return self._about(key, self.files.info(key)["size"])
        except OSError as error:
            raise FileNotFoundError(key) from error

    def get(self, key: str, *, options: Mapping[str, Any] | None = None) -> _Result:
        """Bytes of a file, or of a range of it."""
        meta = self.head(key)
        start, stop = (options or {}).get("range", (0, meta["size"]))
        data = self.files.cat_file(key, start, stop)
        return _Result(data, meta, (start, start + len(data)))

    def list(
        self, prefix: str | None = None, *, chunk_size: int = 50
    ) -> Iterator[list[dict[str, Any]]]:
        """List all files below a folder, at once."""
        found = self.files.find(prefix or "", detail=True)
        yield [self._about(name, about["size"]) for name, about in found.items()]

    def list_with_delimiter(self, prefix: str | None = None) -> dict[str, Sequence[Any]]:
        """List the folders and files in a folder."""
        try:
            found = self.files.ls(prefix or "", detail=True)
        except FileNotFoundError:
            found = []
        folders = [each["name"].lstrip("/") for each in found if each["type"] == "directory"]
        files = [self._about(e["name"], e["size"]) for e in found if e["type"] == "file"]
        return {"common_prefixes": folders, "objects": files}

    def _about(self, name: str, size: int) -> dict[str, Any]:
        changed = self.files.modified(name)
        state = {"e_tag": f"{changed.timestamp()}-{size}", "last_modified": changed}
        return {"path": name.lstrip("/"), "size": size, **state}

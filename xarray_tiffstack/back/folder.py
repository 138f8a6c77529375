"""Files of a folder as they are, on a disk or in a bucket: which, their sizes, times, checksums."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from xarray_tiffstack.storage import Remote, access_of, all_bytes, dated, is_url, list_url, sizes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BLOCK = 1 << 20  # bytes read at once


def list_folder(folder: str) -> Iterator[tuple[str, int]]:
    """List all files below a folder, hidden ones too: path and size; -1 of what is no file.

    Links are not followed, and count as no files, as do folders that cannot be listed. Of a URL
    it costs a request for each folder, or for each 1,000 objects of one.
    """
    if is_url(folder):
        root, objects = list_url(f"{folder}/", access_of(folder), bool, bool)
        yield from ((f"{root}/{name}", size) for name, size in sorted(objects.items()))
        return
    folders = [folder]
    while folders:
        here = folders.pop()
        try:
            with os.scandir(here) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            yield here, -1
            continue
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
                continue
            try:
                regular = entry.is_file(follow_symlinks=False)
                yield entry.path, entry.stat().st_size if regular else -1
            except OSError:
                yield entry.path, -1


def about(path: str) -> tuple[int, int]:
    """Size of a file in bytes, and when it was last changed, in nanoseconds since 1970.

    Raises
    ------
    OSError
        It is not there.
    """
    if is_url(path):
        (found,) = dated([path])
        if found is None:
            raise FileNotFoundError(f"{path} does not exist")
        return found[0], found[2]
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns


def there(paths: Sequence[str]) -> list[str]:
    """Find the files that are there; of URLs as cheaply as `storage.sizes`.

    Where a server does not say it, all may be there.
    """
    if paths and is_url(paths[0]):
        try:
            found = sizes(paths)
        except OSError:
            return list(paths)
        return [path for path, size in zip(paths, found, strict=True) if size is not None]
    return [path for path in paths if os.path.isfile(path)]


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, by hashlib alone: it shares nothing with what reads or writes TIFFs.

    Of a URL it asks once, and is given all bytes.
    """
    if is_url(path):
        digest = hashlib.sha256()
        for piece in all_bytes(path, access_of(path)):
            digest.update(piece)
        return digest.hexdigest()
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_span(path: str, start: int, stop: int) -> Iterator[bytes]:
    """Bytes of a file, piece by piece.

    Raises
    ------
    OSError
        It ends before, or changed since it was read.
    """
    if is_url(path):
        remote = Remote.of(path, access_of(path))
        for at in range(start, stop, BLOCK):
            yield remote.pixels(at, min(at + BLOCK, stop))
        return
    with open(path, "rb") as file:
        file.seek(start)
        while start < stop:
            piece = file.read(min(BLOCK, stop - start))
            if not piece:
                raise OSError(f"{path} was cut short while it was read")
            start += len(piece)
            yield piece

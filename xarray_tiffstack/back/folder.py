"""Files of a folder as they are on the disk: which there are, their sizes, times and checksums."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 1 << 20  # bytes read at once


def list_folder(folder: str) -> Iterator[tuple[str, int]]:
    """List all files below a folder, hidden ones too: path and size; -1 of what is no file.

    Links are not followed, and count as no files, as do folders that cannot be listed.
    """
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


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, by hashlib alone: it shares nothing with what reads or writes TIFFs."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_span(path: str, start: int, stop: int) -> Iterator[bytes]:
    """Bytes of a file, piece by piece.

    Raises
    ------
    OSError
        It ends before.
    """
    with open(path, "rb") as file:
        file.seek(start)
        while start < stop:
            piece = file.read(min(BLOCK, stop - start))
            if not piece:
                raise OSError(f"{path} was cut short while it was read")
            start += len(piece)
            yield piece

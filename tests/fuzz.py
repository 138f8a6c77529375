"""Damaged TIFFs: each is opened and read, alone and as the second of two files.

    python tests/fuzz.py [--mutants 13000] [--seed 0] [FOLDER OF MORE TIFFS ...]

Prints how often the reader hung, returned memory that nobody wrote, returned pixels that are
neither those of tifffile nor those before the damage, raised what is neither OSError nor
ValueError with the name of the file, or took more memory than it may. All must be 0.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import queue
import random
import struct
import subprocess
import sys
import tempfile
import threading
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.ma  # before np.empty is replaced
import tifffile

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 60.0  # seconds that one mutant may take, tifffile's own attempt included
MEMORY = 3 << 30  # bytes of addresses that a worker may take; the good files need a few MB
FAULTS = ("hangs", "unwritten memory", "wrong pixels", "unnamed errors", "too much memory")

GREY, RGB = {"photometric": "minisblack"}, {"photometric": "rgb"}
SHAPE = (4, 21, 18)
WRITTEN: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain": (SHAPE, {**GREY, "metadata": None}),
    "single": (SHAPE[1:], {**GREY, "metadata": None}),
    "big-endian": (SHAPE, {**GREY, "metadata": None, "byteorder": ">"}),
    "strips": (SHAPE, {**GREY, "metadata": None, "rowsperstrip": 5}),
    "bigtiff": (SHAPE, {**GREY, "metadata": None, "bigtiff": True}),
    "bigtiff-strips": (SHAPE, {**GREY, "bigtiff": True, "byteorder": ">", "rowsperstrip": 4}),
    "shaped": ((2, 2, *SHAPE[1:]), {**GREY}),
    "imagej": (SHAPE, {**GREY, "imagej": True, "metadata": {"axes": "ZYX"}}),
    "hyperstack": ((2, 2, *SHAPE[1:]), {**GREY, "imagej": True, "metadata": {"axes": "TCYX"}}),
    "ome": ((2, 2, *SHAPE[1:]), {**GREY, "ome": True, "metadata": {"axes": "TZYX"}}),
    "ome-tiled": (SHAPE, {**GREY, "ome": True, "tile": (16, 16), "compression": "zlib"}),
    "tiled": (SHAPE, {**GREY, "metadata": None, "tile": (16, 16)}),
    "lzw": (SHAPE, {**GREY, "metadata": None, "compression": "lzw", "predictor": True}),
    "deflate": (SHAPE, {**GREY, "metadata": None, "compression": "zlib", "rowsperstrip": 8}),
    "zstd": (SHAPE, {**GREY, "metadata": None, "compression": "zstd", "byteorder": ">"}),
    "packbits": (SHAPE, {**GREY, "metadata": None, "compression": "packbits"}),
    "rgb": ((2, *SHAPE[1:], 3), {**RGB, "metadata": None}),
    "rgb-planar": ((2, 3, *SHAPE[1:]), {**RGB, "metadata": None, "planarconfig": "separate"}),
    "rgb-strips": ((2, *SHAPE[1:], 3), {**RGB, "metadata": None, "rowsperstrip": 6}),
    "rgb-tiled": (
        (2, *SHAPE[1:], 3),
        {**RGB, "metadata": None, "tile": (16, 16), "compression": "zlib"},
    ),
}
CODES = (254, 256, 257, 258, 259, 262, 266, 270, 273, 277, 278, 279, 284, 305, 317, 322, 323)
CODES += (324, 325, 330, 339, 32997, 33445, 33628, 34412, 51123)


def write_flavours(folder: Path) -> list[Path]:
    """Write small files, a few pages each, stored in every way."""
    paths = []
    for kind, (shape, options) in WRITTEN.items():
        dtype = "uint8" if "rgb" in kind else "uint16"
        pixels = (np.arange(np.prod(shape)) * 259 % 65521).reshape(shape).astype(dtype)
        path = folder / f"{kind}.tif"
        tifffile.imwrite(path, pixels, **options)
        paths.append(path)
    # Every page with a directory of its own between the pixels, as microscopes write.
    path = folder / "interleaved.tif"
    with tifffile.TiffWriter(path) as tif:
        for i in range(6):
            page = np.arange(i, i + 21 * 18, dtype="uint16").reshape(21, 18)
            tif.write(page, photometric="minisblack", metadata=None, contiguous=False)
    return [*paths, path]


def some_of(folder: Path) -> list[Path]:
    """Take some of the small TIFFs below a folder."""
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".tif", ".tiff"})
    small = [path for path in found if 0 < path.stat().st_size < 100_000]
    return small[:: max(1, len(small) // 8)]


# --- damage


class Anatomy:
    """Where the directories of a good file are."""

    def __init__(self, path: Path) -> None:
        self.content = path.read_bytes()
        self.order = ">" if self.content[:2] == b"MM" else "<"
        self.big = 43 in self.content[2:4]
        self.entries: list[int] = []
        self.links: list[int] = []
        self.directories: list[int] = []
        try:
            with tifffile.TiffFile(path, _multifile=False) as tif:
                pages = list(tif.pages) if len(self.content) > 1000 else []
        except Exception:  # one of the files that are damaged already
            pages = []
        for page in pages:
            self.directories.append(page.offset)
            tags = sorted(tag.offset for tag in getattr(page, "tags", ()))
            self.entries += tags
            if tags:
                self.links.append(tags[-1] + (20 if self.big else 12))

    def mutant(self, rng: random.Random) -> bytes:
        """Damage a copy in one to three places."""
        content = bytearray(self.content)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            content = self._damage(content, rng)
        return bytes(content)

    def _damage(self, content: bytearray, rng: random.Random) -> bytearray:
        kind = rng.randrange(12)
        size = len(content)
        if not size:
            return content
        if not self.entries and kind < 7:
            kind = 7 + kind % 5
        if kind < 5:
            self._entry(content, rng, kind)
        elif kind == 5:
            after = rng.choice((0, 1, 8, 16, size - 1, size, 2**32 - 1, *self.directories))
            self._put(content, rng.choice(self.links), "Q" if self.big else "I", after)
        elif kind == 6:
            count = rng.choice((0, 1, 5, 30, 255, 4097, 65535))
            self._put(content, rng.choice(self.directories), "Q" if self.big else "H", count)
        elif kind == 7:
            return content[: rng.randrange(size)]
        elif kind == 8:
            for _ in range(rng.randrange(1, 9)):
                content[rng.randrange(min(size, 600))] = rng.randrange(256)
        elif kind == 9:
            start = rng.randrange(size)
            end = min(size, start + rng.randrange(512))
            content[start:end] = bytes([rng.choice((0, 255))]) * (end - start)
        elif kind == 10:
            for _ in range(rng.randrange(1, 30)):
                content[rng.randrange(size)] ^= 1 << rng.randrange(8)
        else:
            digits = [i for i, byte in enumerate(content[:4096]) if chr(byte).isdigit()]
            for i in rng.sample(digits, min(len(digits), 3)):
                content[i] = ord(rng.choice("0123456789"))
        return content

    def _entry(self, content: bytearray, rng: random.Random, kind: int) -> None:
        """Damage the code, type, count or value of a tag."""
        at = rng.choice(self.entries)
        number, size = "Q" if self.big else "I", len(content)
        if kind == 0:
            self._put(content, at + 2, "H", rng.choice((*range(20), 65535)))
        elif kind == 1:
            count = rng.choice((0, 1, 2, 3, 4, 255, 65535, 2**31, 2**32 - 1))
            self._put(content, at + 4, number, count)
        elif kind == 2 and rng.random() < 0.3:
            self._put(content, at, "H", rng.choice(CODES))
        else:
            small = (0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 255, 4096, 32767, 65535)
            large = (2**31 - 1, 2**31, 2**32 - 1, size, size - 1, rng.randrange(size))
            value = rng.choice(small) if rng.random() < 0.7 else rng.choice(large)
            form = "H" if value < 65536 and rng.random() < 0.5 else number
            self._put(content, at + (12 if self.big else 8), form, value)

    def _put(self, content: bytearray, at: int, form: str, value: int) -> None:
        if at + struct.calcsize(form) <= len(content):
            struct.pack_into(self.order + form, content, at, value)


# --- what the reader makes of it


def read_all(path: Path, layout: Any) -> np.ndarray:
    """Read the array of a file, twice, into memory with other contents each time."""
    from xarray_tiffstack.tiff import read

    found = []
    for poison in (0xAA, 0x55):
        out = np.full(layout.shape, 0, layout.dtype)
        out.reshape(-1).view("u1")[:] = poison
        _POISON[0] = poison
        read(path, layout, [slice(None)] * len(layout.shape), out)
        found.append(out)
    if not np.array_equal(found[0].view("u1"), found[1].view("u1")):
        raise _Unwritten
    return found[0]


class _Unwritten(Exception):
    pass


_EMPTY, _POISON = np.empty, [0xAA]


@functools.wraps(np.empty)
def _poisoned(*args: Any, **options: Any) -> np.ndarray:
    """Give what ``np.empty`` gives, filled, so that memory that nobody writes shows."""
    array = _EMPTY(*args, **options)
    if array.flags.c_contiguous and array.dtype != object:
        array.reshape(-1).view("u1")[:] = _POISON[0]
    return array


def judged(path: Path) -> list[np.ndarray]:
    """All that tifffile makes of a file: its images, and its like pages."""
    found: list[np.ndarray] = []
    groups: dict[Any, list[np.ndarray]] = {}
    with (
        warnings.catch_warnings(action="ignore"),
        contextlib.suppress(Exception),
        tifffile.TiffFile(path, _multifile=False) as tif,
    ):
        safe = True
        with contextlib.suppress(Exception):
            safe = _gather_pages(tif, groups)
        if safe:
            found += [each.asarray(maxworkers=1) for each in tif.series]
    return found + [np.stack(pages) for pages in groups.values()]


def _gather_pages(tif: tifffile.TiffFile, groups: dict[Any, list[np.ndarray]]) -> bool:
    """Decode the pages that can be, by shape and type; whether tifffile ends with the rest."""
    seen: set[int] = set()
    safe = True
    for page in tif.pages:
        if page.offset in seen:
            return False
        seen.add(page.offset)
        if any(n <= 0 for n in page.shaped) or page.nbytes > 1e8:
            safe = False
            continue
        with contextlib.suppress(Exception):
            pixels = _decoded(page.aspage())
            groups.setdefault((pixels.shape, pixels.dtype), []).append(pixels)
    return safe


def _decoded(page: tifffile.TiffPage) -> np.ndarray:
    """Decode a page; or join its strips, where it only says wrongly how many rows they have."""
    try:
        return page.asarray(maxworkers=1)
    except Exception:
        if page.compression != 1 or page.dtype is None:
            raise
        strips = zip(page.tags[273].value, page.tags[279].value, strict=True)
        handle, stored = page.parent.filehandle, b""
        for offset, size in strips:
            handle.seek(offset)
            stored += handle.read(size)
        dtype = page.dtype.newbyteorder(page.parent.byteorder)
        return np.frombuffer(stored, dtype).reshape(page.shape)


def same(pixels: np.ndarray, others: list[np.ndarray]) -> bool:
    """Whether pixels are those of one of some arrays, in order."""
    return any(
        pixels.size == other.size
        and pixels.dtype == other.dtype.newbyteorder("=")
        and pixels.tobytes() == other.astype(pixels.dtype).tobytes()
        for other in others
    )


def examine(path: Path, good: Path) -> list[str]:
    """Verdicts on a mutant: alone, and as the file after a good one."""
    from xarray_tiffstack.tiff import metadata, probe

    verdicts = []
    before: list[np.ndarray] = []
    layouts: list[Any] = [None]
    try:
        layouts.append(probe(good))
        before.append(read_all(good, layouts[1]))
    except (OSError, ValueError):
        layouts.pop()
    judges: list[np.ndarray] | None = None
    for layout in layouts:
        read = functools.partial(read_all, path, layout)
        alone = functools.partial(_read_alone, path)
        pixels, verdict = _tried(alone if layout is None else read, path.name)
        if pixels is not None and not same(pixels, before):
            judges = judged(path) if judges is None else judges
            verdict = "as tifffile" if same(pixels, judges) else "wrong pixels"
        verdicts.append(verdict)
    _, verdict = _tried(functools.partial(metadata, path), path.name)
    return [*verdicts, *([verdict] if verdict.split(":")[0] in FAULTS else [])]


def _read_alone(path: Path) -> np.ndarray:
    from xarray_tiffstack.tiff import probe

    return read_all(path, probe(path))


def _tried(call: Callable[[], Any], name: str) -> tuple[Any, str]:
    """Give what a call returns, if anything, and the verdict on it."""
    try:
        return call(), "as before"
    except (OSError, ValueError) as error:
        return None, "refused" if name in str(error) else f"unnamed errors: {error}"
    except _Unwritten:
        return None, "unwritten memory"
    except MemoryError:
        return None, "too much memory"
    except Exception as error:
        return None, f"unnamed errors: {type(error).__name__}: {error}"


# --- many of them


def work(files: list[Path], folder: Path, seed: int, indices: range) -> None:
    """Examine mutants one by one; a line of JSON each."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    np.empty = _poisoned  # type: ignore[assignment]
    anatomies: dict[int, Anatomy] = {}
    for index in indices:
        k = index % len(files)
        if k not in anatomies:
            anatomies[k] = Anatomy(files[k])
        path = folder / f"mutant{index}.tif"
        path.write_bytes(anatomies[k].mutant(random.Random(f"{seed}/{index}")))
        print(json.dumps([index, examine(path, files[k])]), flush=True)
        path.unlink()


def run(
    files: list[Path], folder: Path, mutants: int, seed: int = 0, patience: float = PATIENCE
) -> tuple[Counter[str], list[str]]:
    """Examine mutants in a process that is watched; count the verdicts, and list the faults."""
    counts: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
    faults = []
    listed = folder / "files.json"
    listed.write_text(json.dumps([str(path) for path in files]))
    start = 0
    while start < mutants:
        command = [sys.executable, __file__, "--work", str(listed), str(seed), str(start)]
        command.append(str(mutants))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in _lines(process, patience):
                index, verdicts = json.loads(line)
                for verdict in verdicts:
                    kind = verdict.split(":")[0]
                    counts[kind] += 1
                    if kind in FAULTS:
                        faults.append(f"{index} ({files[index % len(files)].name}): {verdict}")
                start = index + 1
            process.kill()
        if start < mutants:  # it hung, or died
            counts["hangs"] += 1
            faults.append(f"{start} ({files[start % len(files)].name}): hangs or dies")
            start += 1
    return counts, faults


def _lines(process: subprocess.Popen[str], patience: float) -> Any:
    """Lines that a process prints, until it ends or is silent for too long."""
    lines: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in process.stdout or ():
            lines.put(line)
        lines.put("")

    threading.Thread(target=listen, daemon=True).start()
    try:
        while line := lines.get(timeout=patience):
            yield line
    except queue.Empty:
        return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, help="folders of more good files")
    parser.add_argument("--mutants", type=int, default=13_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        listed, seed, start, stop = given.work
        files = [Path(path) for path in json.loads(Path(listed).read_text())]
        work(files, Path(listed).parent, int(seed), range(int(start), int(stop)))
        return
    with tempfile.TemporaryDirectory() as folder:
        files = write_flavours(Path(folder))
        files += [path for more in given.folders for path in some_of(more)]
        counts, faults = run(files, Path(folder), given.mutants, given.seed)
    print(f"{given.mutants} mutants of {len(files)} files, seed {given.seed}")
    for kind, count in sorted(counts.items()):
        print(f"{count:8}  {kind}")
    for fault in faults[:200]:
        print(" ", fault)
    sys.exit(any(counts[kind] for kind in FAULTS))


if __name__ == "__main__":
    main()

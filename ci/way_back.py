"""Files converted with one version of the encoders and restored with another, both ways.

    python ci/way_back.py OTHER_PYTHON [FOLDER]

Compressed TIFFs of every kind are written and converted with this interpreter, and restored with
the other; then the other way round. Each file has to come back with the SHA-256 that it had, or to
be named as one that does not, and then nothing of it may be written. Prints what was seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from hashlib import sha256
from itertools import product
from pathlib import Path

import numpy as np

NAME = "a_t0.tif"
LEVELS = {
    "lzw": (None,),
    "packbits": (None,),
    "deflate": (1, 6, 9, 12),
    "zlib": (1, 6, 9),
    "zstd": (1, 3, 9, 19),
    "lzma": (6,),
}
TYPES = ("uint8", "uint16", "float32")


def make(folder: Path) -> None:
    """Write a TIFF of every kind, each in a folder of its own: shapes and types differ."""
    import tifffile

    rng = np.random.default_rng(0)
    for codec, levels in LEVELS.items():
        for level, dtype, predictor, tiled in product(levels, TYPES, (False, True), (False, True)):
            if (predictor and codec in ("packbits", "zlib")) or (tiled and codec == "zlib"):
                continue
            place = folder / f"{codec}{level or ''}-{dtype}{'-p' * predictor}{'-t' * tiled}"
            place.mkdir(parents=True)
            pixels = rng.normal(100, 8, (2, 200, 150)).clip(0) + np.arange(150) // 8
            planes, options = pixels.astype(dtype), {"photometric": "minisblack"}
            options |= {"predictor": predictor, "tile": (128, 128) if tiled else None}
            if codec == "zlib":  # that of Python, which tifffile does not use
                packed = [zlib.compress(plane.tobytes(), level) for plane in planes]
                options |= {"compression": "deflate", "rowsperstrip": 200, "dtype": dtype}
                tifffile.imwrite(place / NAME, iter(packed), shape=planes.shape, **options)
            else:
                options["compressionargs"] = {"level": level} if level else {}
                tifffile.imwrite(place / NAME, planes, compression=codec, **options)
    make_by_libtiff(folder)


def make_by_libtiff(folder: Path) -> None:
    """Write what libtiff compresses, where imagecodecs has its encoder."""
    import imagecodecs

    pixels = np.random.default_rng(0).normal(100, 8, (200, 150)).clip(0)
    for codec, dtype in product(("lzw", "packbits"), TYPES):
        try:
            data = imagecodecs.tiff_encode(pixels.astype(dtype), compression=codec)
        except NotImplementedError:
            return
        place = folder / f"libtiff {codec}-{dtype}"
        place.mkdir()
        (place / NAME).write_bytes(data)


def convert(folder: Path, stores: Path) -> None:
    """Convert each folder; prints the kinds whose pixels have to be encoded again, as JSON."""
    import xarray as xr

    from xarray_tiffstack.back.stored import Stored

    encoded = []
    for raw in sorted(folder.iterdir()):
        ds = xr.open_dataset(raw, engine="tiffstack", pattern="a_t{t:d}.tif")
        options = {"levels": 1, "restorable": True, "progress": False}
        summary = ds.tiffstack.to_ome_zarr(stores / f"{raw.name}.zarr", **options)
        assert summary.kept.files == 1, raw
        (file,) = Stored(stores / f"{raw.name}.zarr").look().files
        encoded += [raw.name] if file.made_by else []
    print(json.dumps(encoded))


def back(stores: Path, target: Path) -> None:
    """Restore each store; prints what failed, as JSON."""
    from xarray_tiffstack import restore

    failed = {}
    for store in sorted(stores.iterdir()):
        failed[store.stem] = restore(store, target / store.stem, progress=False).failed
    print(json.dumps(failed))


def version(python: str) -> str:
    """Which encoders an interpreter has."""
    code = "import imagecodecs, tifffile\nprint(imagecodecs.__version__, tifffile.__version__)"
    return "imagecodecs {} and tifffile {}".format(*ask(python, "-c", code).split())


def ask(python: str, *args: object) -> str:
    """Run an interpreter; gives what it prints."""
    command = [python, "-W", "ignore", *map(str, args)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def there_and_back(maker: str, restorer: str, folder: Path) -> None:
    """Convert with one, restore with the other, and compare."""
    raw, stores, target = folder / "raw", folder / "stores", folder / "back"
    ask(maker, __file__, "make", raw)
    encoded = json.loads(ask(maker, __file__, "convert", raw, stores))
    failed = json.loads(ask(restorer, __file__, "back", stores, target))
    told: Counter[str] = Counter()
    for kind in sorted(path.name for path in raw.iterdir()):
        before, again = sha256((raw / kind / NAME).read_bytes()), target / kind / NAME
        if failed[kind]:
            assert not again.exists(), f"{kind} is told as not restored, and is written"
            assert "install that" in failed[kind][0], failed[kind]
            told[kind.partition("-")[0]] += 1
        else:
            after = sha256(again.read_bytes())
            assert after.digest() == before.digest(), f"{kind}: OTHER BYTES"
    print(
        f"From {version(maker)} to {version(restorer)}: {len(failed)} kinds of files, "
        f"{len(encoded)} of them encoded again; {told.total()} told as not restored {dict(told)}"
    )


def main() -> None:
    """Do both ways, or one step of it."""
    what, *paths = sys.argv[1:]
    steps = {"make": make, "convert": convert, "back": back}
    if what in steps:
        steps[what](*map(Path, paths))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(paths[0]) if paths else Path(scratch)
        there_and_back(sys.executable, what, folder / "there")
        there_and_back(what, sys.executable, folder / "back")


if __name__ == "__main__":
    main()

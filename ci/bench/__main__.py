"""Measure this package beside others and print one table: ``sh ci/bench.sh [--quick]``."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.back import BACK
from bench.data import Workshop
from bench.looking import looking
from bench.machines import MACHINES
from bench.measure import CORES, HEAD
from bench.remote import REMOTE
from bench.rows import READING, WRITING

PACKAGES = (
    *("xarray", "dask", "numpy", "pandas", "tifffile", "imagecodecs", "zarr", "tensorstore"),
    *("bioio", "bioio-tiff-glob", "s3fs", "obstore", "moto", "napari", "neuroglancer"),
)


def machine() -> str:
    """Say what was measured on, and with which versions."""
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    found = [f"{platform.system()}, {CORES} cores, {memory:.0f} GiB of memory"]
    found.append(f"other programs kept {os.getloadavg()[2]:.1f} cores busy")
    found.append(f"Python {platform.python_version()}")
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found) + "."


def main() -> None:
    """Measure row after row; each is printed at once."""
    parser = argparse.ArgumentParser(prog="sh ci/bench.sh", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="reading only, fewer rounds: two minutes",
    )
    parser.add_argument("--only", default="", help="only the rows of this function")
    parser.add_argument("--folder", help="where the data are made (7 GB; a temporary folder)")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # the warnings of the others are not this benchmark's
    print(f"{machine()}\n\n{HEAD}", flush=True)
    with tempfile.TemporaryDirectory(prefix="tiffstack-bench-", dir=args.folder) as folder:
        shop = Workshop(Path(folder), args.quick)
        reading = (*READING, looking, *REMOTE)
        writing = (*WRITING, *MACHINES, *BACK)
        for measure in reading if args.quick else reading + writing:
            if args.only in ("", measure.__name__):
                begin = time.monotonic()
                for row in measure(shop):
                    print(row, flush=True)
                took = time.monotonic() - begin
                print(f"{measure.__name__}: {took:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

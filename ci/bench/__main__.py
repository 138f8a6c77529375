"""Run the benchmark: ``sh ci/bench.sh [--quick]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
import warnings
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from bench import convert
from bench import rows as reading
from bench.data import Workshop
from bench.measure import Row, cores
from bench.page import as_text, rewrite

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("xarray", "dask", "numpy", "pandas", "tifffile", "imagecodecs", "zarr")
LOAD = os.getloadavg()[0]  # of other programs
ROWS = (*reading.ROWS, *convert.ROWS)
PEERS = ("dask-image", "bioio", "bioio-tiff-glob", "tensorstore")


def machine() -> dict[str, str]:
    """Say what the figures were measured on."""
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "cores": str(cores()),
        "memory": f"{int(memory) / 2**20:.0f} GiB",
        "load before": f"{LOAD:.1f}",
        "system": platform.system(),
        "Python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES + PEERS if find_spec(name.replace("-", "_"))},
    }


def main() -> None:
    """Measure every row, print it at once, and write the results down."""
    parser = argparse.ArgumentParser(prog="sh ci/bench.sh", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: within two minutes")
    parser.add_argument("--only", default="", help="only the functions of rows.py with this name")
    parser.add_argument("--folder", help="where to build the data (6 GB; a temporary folder)")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # peers warn of their own affairs
    if args.quick:
        print("Writing is measured by the full run only.")
    rows: dict[str, list[Row]] = {}
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tiffstack-bench-", dir=args.folder) as folder:
        shop = Workshop(Path(folder), args.quick)
        for measure in reading.ROWS if args.quick else ROWS:
            if args.only not in measure.__name__:
                continue
            rows[measure.__name__] = []
            for row in measure(shop):
                print(f"{time.monotonic() - begin:4.0f} s  {as_text(row)}", flush=True)
                rows[measure.__name__].append(row)
    results = {
        "machine": machine(),
        "quick": args.quick,
        "seconds": time.monotonic() - begin,
        "rows": [asdict(row) for each in rows.values() for row in each],
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(f"\n{results['seconds']:.0f} s; results in {args.json}")
    if not args.only and not args.quick:
        rewrite(ROOT / "docs" / "performance.md", rows, machine())
        print("docs/performance.md has the new figures")


if __name__ == "__main__":
    main()

"""The main job, told step by step: from file names to labels to a Zarr store."""

from __future__ import annotations

import ast
import os
import tempfile
import warnings
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

WAVELENGTHS = (488, 560, 642)
STACKS = 8
SHAPE = (16, 64, 96)  # z, y, x

# Each step is the code that a reader would type, and is run as it stands.
STEPS = (
    (
        "Open the folder. Nothing but one file's header is read.",
        'ds = xr.open_dataset("raw/", engine="tiffstack")\nds',
    ),
    ("What was understood, and what is missing.", "ds.tiffstack.report()"),
    ("Select by label. Still nothing is read.", "green = ds.image.sel(channel=560)\ngreen"),
    (
        "One plane: only its bytes are read.",
        "plane = green.sel(stack=3).isel(z=5).compute()\nplane.shape, plane.values.max()",
    ),
    (
        "Save the selection to Zarr, chunk by chunk.",
        'ds.sel(channel=560).to_zarr("560nm.zarr", zarr_format=2)',
    ),
    (
        "Open the store: labels, times and units are all there.",
        'saved = xr.open_zarr("560nm.zarr")\nsaved.image.sel(stack=3)',
    ),
    (
        "Verify it, pixel by pixel, against the TIFF files themselves.",
        "for stack, file in saved.tiffstack.files.path.dropna().items():\n"
        "    assert (saved.image.sel(stack=stack) == tifffile.imread(file)).all()\n"
        '"all equal"',
    ),
)


def write_acquisition(folder: Path) -> list[str]:
    """Write 3 channels x 8 stacks with the reference names, one file missing.

    Each pixel's value tells its channel, stack, z, y and x. Returns the names.
    """
    import numpy as np
    import tifffile

    folder.mkdir(parents=True, exist_ok=True)
    names = []
    z, y, x = np.indices(SHAPE)
    for ch, stack in product(range(len(WAVELENGTHS)), range(STACKS)):
        msec = 43748 * stack + 12 * ch
        name = (
            f"demo_CamA_ch{ch}_CAM1_stack{stack:04d}_{WAVELENGTHS[ch]}nm_{msec:07d}msec_"
            f"{1335543 + msec:010d}msecAbs_000x_000y_000z_0000t.tif"
        )
        if (ch, stack) == (2, 6):
            continue  # the file that is missing
        pixels = 10000 * (ch + 1) + 1000 * stack + 40 * z + (y + x) // 4
        tifffile.imwrite(folder / name, pixels.astype("uint16"), photometric="minisblack")
        names.append(name)
    return names


def demo(directory: str | None = None) -> None:
    """Run the main job in a folder (a temporary one by default), showing each step's code.

    Raises
    ------
    FileExistsError
        `directory` holds results of an earlier run.
    """
    with nullcontext(directory) if directory else tempfile.TemporaryDirectory() as where:
        root = Path(where)
        raw, store = root / "raw", root / "560nm.zarr"
        if raw.exists() or store.exists():
            raise FileExistsError(f"{root} holds raw/ or 560nm.zarr already; name another --dir")
        names = write_acquisition(raw)
        print(f"# {len(names)} TIFF files stand in {raw}, among them\n#   {names[9]}\n")
        _run_steps(root)
        if directory:
            print(f"# The files stay in {root}")


def _run_steps(root: Path) -> None:
    """Run the steps in `root`, printing code and result."""
    import tifffile
    import xarray as xr

    variables: dict[str, Any] = {"xr": xr, "tifffile": tifffile}
    before = Path.cwd()
    os.chdir(root)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for i, (what, code) in enumerate(STEPS, 1):
                print(f"# {i}. {what}")
                print("".join(f">>> {line}\n" for line in code.splitlines()).rstrip())
                result = _execute(code, variables)
                if result is not None:
                    print(result if not isinstance(result, str) else repr(result))
                print()
    finally:
        os.chdir(before)


def _execute(code: str, variables: dict[str, Any]) -> Any:
    """Run code; where its last statement is an expression, return its value."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<demo>", "exec"), variables)
    if not isinstance(last, ast.Expr):
        return None
    result = eval(compile(ast.Expression(last.value), "<demo>", "eval"), variables)
    return None if type(result).__name__ == "ZarrStore" else result

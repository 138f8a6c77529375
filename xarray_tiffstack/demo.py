"""The main job, told step by step: from file names to labels to a Zarr store."""

from __future__ import annotations

import ast
import os
import sys
import warnings
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

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


# What the microscope's own program leaves beside its files; says the voxel: 0.5, 0.1, 0.1 um.
SETTINGS = """\
Z PZT Offset, Interval (um), # of Pixels for Excitation (0) :\t50\t0.5\t16
# of stacks (0) :\t8
Z motion :\tZ galvo & piezo
Magnification = 65
Model :\tC11440-22C
Binning :\tX=1 Y=1
"""
BEADS = 14
OFFSET, CELL, BEAD = 100, 40, 600  # grays of the camera in the dark, of the cell, of a bead


def write_acquisition(folder: Path) -> list[str]:
    """Write 3 channels x 8 stacks of moving beads, as the microscope does, one file missing.

    Returns the names.
    """
    import tifffile

    from xarray_tiffstack import conventions

    (pattern,) = conventions()["aollsm"].patterns
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for ch, stack in product(range(len(WAVELENGTHS)), range(STACKS)):
        if (ch, stack) == (2, 6):
            continue  # the file that is missing
        time = 43748 * stack + 12 * ch
        name = pattern.compose(
            name="demo", camera="A", ch=ch, camera_index=1, stack=stack,
            wavelength=WAVELENGTHS[ch], time=time, time_abs=1335543 + time,
            x_offset=0, y_offset=0, z_offset=0, t=0,
        )  # fmt: skip
        tifffile.imwrite(folder / name, _volume(ch, stack), photometric="minisblack")
        names.append(name)
    (folder / "demo_Settings.txt").write_text(SETTINGS, encoding="utf-8")
    return names


def _volume(ch: int, stack: int) -> np.ndarray:
    """One volume: beads that drift round the middle of a dim cell, and the noise of the camera."""
    import numpy as np

    rng = np.random.default_rng(ch)
    size = np.array(SHAPE)
    radius, angle = rng.uniform(6, 26, BEADS), rng.uniform(0, 2 * np.pi, BEADS)
    angle = angle + stack * rng.uniform(0.05, 0.25, BEADS)
    centre = np.stack([
        rng.uniform(4, 12, BEADS),
        size[1] / 2 + radius * np.sin(angle),
        size[2] / 2 + 1.6 * radius * np.cos(angle),
    ])  # fmt: skip
    light = rng.uniform(0.4, 1, BEADS) * BEAD * 0.97**stack  # they bleach
    beads = _blobs(centre, (1.5, 1.3, 1.3), light)
    cell = _blobs(size[:, None] / 2, (6, 16, 26), np.array([CELL]))
    return np.asarray(np.random.default_rng((ch, stack)).poisson(OFFSET + cell + beads), "uint16")


def _blobs(centre: np.ndarray, width: Sequence[float], light: np.ndarray) -> np.ndarray:
    """Add up Gaussian spots; `centre` holds z, y, x of each, in pixels."""
    import numpy as np

    along = [
        np.exp(-((np.arange(n) - at[:, None]) ** 2) / (2 * sigma**2))
        for n, at, sigma in zip(SHAPE, centre, width, strict=True)
    ]
    return np.asarray(np.einsum("b,bz,by,bx->zyx", light, *along))


def demo(directory: str | None = None) -> None:
    """Run the main job in a folder, showing each step's code; end with a preview.

    Parameters
    ----------
    directory
        Where the acquisition is written, and kept; ``tiffstack-demo`` by default.

    Raises
    ------
    FileExistsError
        The folder holds results of an earlier run.
    """
    root = Path(directory or "tiffstack-demo")
    raw, store, page = root / "raw", root / "560nm.zarr", root / "preview.html"
    if raw.exists() or store.exists():
        raise FileExistsError(f"{root} holds a demo already: remove it, or name another --dir")
    names = write_acquisition(raw)
    print(f"# Wrote {len(names)} TIFF files into {raw}, among them\n#   {names[9]}\n")
    _run_steps(root)
    print("# 8. See it: a page with all planes, all files, and what is not like the others.")
    print(f"$ tiffstack preview {raw} {page}")
    _preview(raw, page)
    print(
        "\n# Next:\n"
        f"$ tiffstack info {raw}\n"
        f"$ tiffstack convert {raw} {root / 'demo.ome.zarr'} --verify\n"
        "$ tiffstack info YOUR_FOLDER"
    )


def _preview(raw: Path, page: Path) -> None:
    """Write the page, and open it where there is a browser to see it in."""
    import xarray as xr

    from xarray_tiffstack.look.commands import show_preview

    ds = xr.open_dataset(raw, engine="tiffstack")
    show_preview(ds, str(page), open_it=sys.stdout.isatty())


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

"""The Settings file that a lattice light-sheet microscope writes beside its TIFFs.

Knows the text that the LabVIEW program of Janelia's lattice light-sheet microscopes leaves as
``<name>_Settings.txt``: what was set for the scan, the lasers and the camera.
"""

from __future__ import annotations

import fnmatch
import math
import os
import re
from pathlib import Path
from typing import Any

from xarray_tiffstack.storage import is_url, texts_in

# Pitch of the camera's own pixels in micrometers, by model, from the makers' data sheets.
_CAMERA_PIXELS = {
    "C11440-10C": 3.63,  # Hamamatsu ORCA-Flash2.8
    "C11440-22C": 6.5,  # Hamamatsu ORCA-Flash4.0
    "C11440-22CU": 6.5,
    "C11440-42U": 6.5,  # Hamamatsu ORCA-Flash4.0 LT
    "C13440-20C": 6.5,  # Hamamatsu ORCA-Flash4.0 V3
    "C13440-20CU": 6.5,
    "C14440-20UP": 6.5,  # Hamamatsu ORCA-Fusion
    "C15440-20UP": 6.5,  # Hamamatsu ORCA-Fusion BT
}


def read_settings(source: str | os.PathLike[str]) -> dict[str, Any]:
    r"""Read what a lattice light-sheet Settings file says about its acquisition.

    Parameters
    ----------
    source
        A ``*Settings.txt`` file, or the folder where it lies. Of several files in a folder (one
        per iteration of a script) only what they all say counts.

    Returns
    -------
    dict
        Of these keys those that are known:

        - ``voxel_size``: micrometers along ``z``, ``y``, ``x``. z is the distance between
          planes: the step of the Z piezo, or of the sample piezo times the sine of its angle to
          the light sheet. y and x are camera pixel x binning / magnification.
        - ``z_motion``: what moved, such as ``"Sample piezo"``.
        - ``stage_step``, ``stage_angle``: step of the sample piezo in micrometers, and its angle
          in degrees, where that was the motion: then the planes are skewed.
        - ``planes``: planes of one stack.
        - ``stacks``: number of stacks that the acquisition was to have.
        - ``channels``: for each excitation a dict of ``filter``, ``wavelength`` (nanometers),
          ``power`` (percent) and ``exposure`` (milliseconds).

    Raises
    ------
    OSError
        If the file or folder cannot be read.

    Notes
    -----
    Reads each file once (some kilobytes).

    Examples
    --------
    >>> from pathlib import Path
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "cell_Settings.txt"
    >>> _ = path.write_text(
    ...     "S PZT Offset, Interval (um), # of Pixels for Excitation (0) :\t50\t0.4\t101\n"
    ...     "# of stacks (0) :\t200\n"
    ...     "Z motion :\tSample piezo\n"
    ...     "Angle between stage and bessel beam (deg) = 30.0\n"
    ... )
    >>> settings = read_settings(path)
    >>> settings["stacks"], settings["planes"], round(settings["voxel_size"]["z"], 6)
    (200, 101, 0.2)
    """
    first, *others = [_parse(text) for text in _texts(source)] or [{}]
    return {key: value for key, value in first.items() if all(o.get(key) == value for o in others)}


def _texts(source: str | os.PathLike[str]) -> list[str]:
    """Texts of a settings file, or of those in a folder."""
    if is_url(source):
        return texts_in(source, "*Settings.txt")
    path = Path(source)
    names = sorted(fnmatch.filter(os.listdir(path), "*Settings.txt")) if path.is_dir() else [""]
    return [(path / name).read_text("utf-8", "replace") for name in names]


def _parse(text: str) -> dict[str, Any]:
    """Read the settings of one file that are known."""
    # "name :<tab>value<tab>value", and in the .ini part "name = value"; a name's first line counts.
    lines = re.findall(r"^(.+?) (?::|=)[ \t]*(.*?)[ \t]*$", text, re.MULTILINE)
    said = {name: value.split("\t") for name, value in reversed(lines)}
    on_stage = said.get("Z motion") == ["Sample piezo"]
    scan = _channels(said, f"{'S' if on_stage else 'Z'} PZT Offset, Interval (um), # of Pixels")
    step, planes = _agreed(scan, 1), _agreed(scan, 2)
    angle = _number(said.get("Angle between stage and bessel beam (deg)"))
    stacks = _agreed(_channels(said, "# of stacks"), 0)
    voxel_size = {"z": _z_step(step, angle if on_stage else 90.0), **_pixel_size(said)}
    found = {
        "voxel_size": {axis: size for axis, size in voxel_size.items() if size},
        "z_motion": said.get("Z motion", [None])[0],
        "stage_step": abs(step) if on_stage and step else None,
        "stage_angle": angle if on_stage else None,
        "planes": int(planes) if planes else None,
        "stacks": int(stacks) if stacks else None,
        "channels": [_laser(row) for row in _channels(said, "Excitation Filter, Laser")],
    }
    return {key: value for key, value in found.items() if value}


def _channels(said: dict[str, list[str]], name: str) -> list[list[str]]:
    """Values of a setting that is given for each excitation: ``name ... (0)``, ``(1)``, ..."""
    numbered = (
        (re.search(r"\((\d+)\)$", key), row) for key, row in said.items() if key.startswith(name)
    )
    return [row for _, row in sorted((int(n[1]), row) for n, row in numbered if n)]


def _agreed(rows: list[list[str]], column: int) -> float | None:
    """Return the number in a column that all excitations share."""
    numbers = {_number(row[column:]) for row in rows}
    return numbers.pop() if len(numbers) == 1 else None


def _number(row: list[str] | None) -> float | None:
    """First value of a setting as a number."""
    try:
        return float(row[0].strip('"')) if row else None
    except ValueError:
        return None


def _z_step(step: float | None, angle: float | None) -> float | None:
    """Distance between planes whose stage moves at an angle (degrees) to them."""
    return None if step is None or angle is None else abs(step * math.sin(math.radians(angle)))


def _pixel_size(said: dict[str, list[str]]) -> dict[str, float]:
    """Pixel size along y and x in micrometers, where camera and magnification are known."""
    pitch = _CAMERA_PIXELS.get(said.get("Model", [""])[0])
    magnification = _number(said.get("Magnification"))
    binning = dict(re.findall(r"([XY])=(\d+)", said.get("Binning", [""])[0]))
    if not pitch or not magnification:
        return {}
    return {
        axis: pitch * int(n) / magnification for axis in "yx" if (n := binning.get(axis.upper()))
    }


def _laser(row: list[str]) -> dict[str, Any]:
    """Filter, wavelength, power and exposure of one excitation; what is no number is left out."""
    values = {
        name: _number(row[k:]) for k, name in enumerate(("wavelength", "power", "exposure"), 1)
    }
    wavelength = values["wavelength"]
    if wavelength and wavelength.is_integer():
        values["wavelength"] = int(wavelength)
    return {
        "filter": row[0],
        **{name: value for name, value in values.items() if value is not None},
    }

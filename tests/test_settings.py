"""The Settings file of a lattice light-sheet microscope."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from xarray_tiffstack.tiff.lattice_settings import read_settings

if TYPE_CHECKING:
    from pathlib import Path

STAGE = """***** ***** ***** General ***** ***** *****
Date :\t10/30/2017 5:23:25 PM
Acq Mode :\tZ stack

***** ***** ***** Waveform ***** ***** *****
Z PZT Offset, Interval (um), # of Pixels for Excitation (0) :\t50\t0\t61
Z PZT Offset, Interval (um), # of Pixels for Excitation (1) :\t50\t0\t61

S PZT Offset, Interval (um), # of Pixels for Excitation (0) :\t50\t-0.4\t61
S PZT Offset, Interval (um), # of Pixels for Excitation (1) :\t50\t-0.4\t61

# of stacks (0) :\t20
# of stacks (1) :\t20

Excitation Filter, Laser, Power (%), Exp(ms) (0) :\tN/A\t560\t2.5\t10
Excitation Filter, Laser, Power (%), Exp(ms) (1) :\tN/A\t488\t20\t15

Cycle lasers :\tper Z

Z motion :\tSample piezo

***** ***** *****   Camera  ***** ***** *****
Model :\tC13440-20C
Binning :\tX=1 Y=2

***** ***** *****   .ini File  ***** ***** *****
[Detection optics]
Magnification = 62.500000
Magnification at Tiling Slit = 1.5

[Sample stage]
Angle between stage and bessel beam (deg) = 31.500000
"""


def test_real_file(data: Path) -> None:
    assert read_settings(data / "aollsm_psf642") == {
        "voxel_size": pytest.approx({"z": 0.1, "y": 6.5 / 63.8, "x": 6.5 / 63.8}),
        "z_motion": "Z galvo & piezo",
        "planes": 51,
        "stacks": 2,
        "channels": [{"filter": "N/A", "wavelength": 642, "power": 100.0, "exposure": 100.0}],
    }


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_stage_scan(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "cell_Settings.txt"
    path.write_text(STAGE, newline=newline)
    sine = math.sin(math.radians(31.5))
    assert read_settings(path) == {
        "voxel_size": pytest.approx({"z": 0.4 * sine, "y": 0.208, "x": 0.104}),
        "z_motion": "Sample piezo",
        "stage_step": 0.4,
        "stage_angle": 31.5,
        "planes": 61,
        "stacks": 20,
        "channels": [
            {"filter": "N/A", "wavelength": 560, "power": 2.5, "exposure": 10.0},
            {"filter": "N/A", "wavelength": 488, "power": 20.0, "exposure": 15.0},
        ],
    }


@pytest.mark.parametrize(
    ("old", "new", "unknown"),
    [
        ("C13440-20C", "Unheard-of 1", {"y", "x"}),
        ("Magnification = 62.5", "Magnification = ", {"y", "x"}),
        ("X=1 Y=2", "", {"y", "x"}),
        ("Angle between", "Angel between", {"z"}),
        ("(1) :\t50\t-0.4\t61", "(1) :\t50\t-0.3\t61", {"z"}),
        ("-0.4", "n/a", {"z"}),
    ],
)
def test_what_is_not_known_stays_absent(
    tmp_path: Path, old: str, new: str, unknown: set[str]
) -> None:
    path = tmp_path / "cell_Settings.txt"
    path.write_text(STAGE.replace(old, new))
    assert set(read_settings(path)["voxel_size"]) == set("zyx") - unknown


def test_several_files_must_agree(tmp_path: Path) -> None:
    (tmp_path / "cell_Iter_0000_Settings.txt").write_text(STAGE)
    other = STAGE.replace("# of stacks (0) :\t20", "# of stacks (0) :\t7").replace(
        "(1) :\t20", "(1) :\t7"
    )
    (tmp_path / "cell_Iter_0001_Settings.txt").write_text(other)
    settings = read_settings(tmp_path)
    assert "stacks" not in settings
    assert settings["planes"] == 61


def test_nothing_to_read(tmp_path: Path) -> None:
    assert read_settings(tmp_path) == {}
    (tmp_path / "Settings.txt").write_text("nothing of the kind\n")
    assert read_settings(tmp_path) == {}
    with pytest.raises(FileNotFoundError):
        read_settings(tmp_path / "other_Settings.txt")

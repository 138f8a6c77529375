"""The report and the file table, on what users make of a Dataset."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import xarray as xr
from conftest import reference_name

if TYPE_CHECKING:
    from pathlib import Path


def opened(source: object, **options: object) -> xr.Dataset:
    return xr.open_dataset(source, engine="tiffstack", **options)  # type: ignore[arg-type]


def test_of_two_folders_whose_files_are_called_alike(acquisition: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(acquisition, again)
    both = xr.concat(
        [opened(acquisition), opened(again)], "sample", data_vars="all", coords="different",
        compat="equals", join="outer",
    )  # fmt: skip
    files = both.tiffstack.files.path
    assert files.loc[0, 560, 3] == str(acquisition / reference_name(1, 3))
    assert files.loc[1, 560, 3] == str(again / reference_name(1, 3))


def test_of_an_array_made_a_dataset(acquisition: Path) -> None:
    ds = opened(acquisition)
    for other in (ds.image.to_dataset(), ds.rename(image="raw"), ds.drop_attrs(deep=False)):
        report = other.tiffstack.report()
        assert report.convention == "aollsm"
        assert report.source == str(acquisition)
        assert report.absent == []


def test_of_labels_that_were_added(acquisition: Path) -> None:
    ds = opened(acquisition).reindex(stack=[0, 1, 9])
    assert ds.tiffstack.files.path.loc[488, 9] is None
    assert [slot["stack"] for slot in ds.tiffstack.report().missing] == [9, 9, 9]


def test_prints(acquisition: Path) -> None:
    (acquisition / reference_name(2, 3)).unlink()
    for i in range(7):
        (acquisition / f"<{i}>.tif").touch()
    report = opened(acquisition, unmatched="ignore").tiffstack.report()
    text = str(report)
    for part in (
        "names read by  aollsm\n", "channel  488, 560, 642 nm\n", "stack  0-4\n",
        "time  0 to 2 min 55 s, every 43.7 s\n", "files  14 of 15 files, ",
        "missing  1\n", "- channel 642: stack 3\n", "unmatched  7\n",
        "... and 2 more\n", 'engine="tiffstack")',
    ):  # fmt: skip
        assert part in text
    for absent in ("duplicates", "gaps", "short", "<6>.tif", "\x1b"):
        assert absent not in text
    page = report._repr_html_()
    assert "&lt;6&gt;.tif" in page
    assert "<6>" not in page
    assert page.count("<dt>") == page.count("</dt>") > 4
    assert page.count('<i class="ok" title=') == 14
    assert page.count('<i class="none" title=') == 1


def test_lines_for_a_terminal(acquisition: Path) -> None:
    (acquisition / reference_name(2, 3)).unlink()
    for i in range(7):
        (acquisition / f"{i}.tif").touch()
    report = opened(acquisition, unmatched="ignore").tiffstack.report()
    narrow = report.text(width=40, colour=True)
    plain = re.sub(r"\x1b\[\d+m", "", narrow)
    assert max(map(len, plain.splitlines()[:-1])) <= 40
    assert "\x1b[31m         missing  1\x1b[0m" in narrow
    everything = report.text(width=40, verbose=True)
    assert "6.tif" in everything
    assert "more" not in everything
    assert f"pattern  {report.pattern}" in everything
    assert json.loads(json.dumps(report.as_dict()))["slots"] == 15

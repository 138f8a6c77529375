"""The command, as a shell runs it."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from conftest import write

from xarray_tiffstack.cli import main, make_parser


def tiffstack(*args: object) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("tiffstack")
    return subprocess.run([command, *map(str, args)], capture_output=True, text=True, check=False)


def test_info(
    shared_acquisition: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(shared_acquisition)]) == 0
    assert len(set(opened)) == 1
    text = capsys.readouterr().out
    for part in ("channel 3, stack 5, z 4", "488, 560, 642 nm", "aollsm", "uint16", "2 min 55 s"):
        assert part in text


def test_info_as_json(shared_acquisition: Path) -> None:
    done = tiffstack("info", shared_acquisition, "--json", "--pattern", "aollsm")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["sizes"] == {"channel": 3, "stack": 5, "z": 4, "y": 6, "x": 8}
    assert facts["labels"]["channel"] == [488, 560, 642]
    assert facts["report"]["matched"] == 15
    assert facts["time"] == [0, 175006, "millisecond"]
    assert facts["bytes"] == 15 * 4 * 6 * 8 * 2


def test_the_source_is_said_as_in_python(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (row, col) in product(("a", "b"), np.ndindex(2, 3)):
        write(tmp_path / f"{name}_r{row}_c{col}.tif", 3 * row + col, shape=(4, 6))
    source = [str(tmp_path), "--pattern", "{name}_r{row:d}_c{col:d}.tif"]
    assert main(["info", *source]) == 1
    assert "tiffstack: the files belong to 2 samples" in capsys.readouterr().err
    options = ["--group", "a", "--mosaic", "--overlap", "x=2"]
    assert main(["info", *source, *options]) == 0
    assert "y 8, x 14" in capsys.readouterr().out


def test_errors_are_one_message(tmp_path: Path) -> None:
    done = tiffstack("info", tmp_path / "nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("tiffstack: no such file or folder")
    assert "Traceback" not in done.stderr


def test_demo(tmp_path: Path) -> None:
    done = tiffstack("demo", "--dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(">>>") >= 7
    assert "'all equal'" in done.stdout
    assert "channel 642: stack 6" in done.stdout
    assert (tmp_path / "560nm.zarr").is_dir()
    assert tiffstack("demo", "--dir", tmp_path).returncode == 1


def test_suggest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for t in range(12):
        (tmp_path / f"run7 488_300mW_t{t}_slice3.tif").touch()
    assert main(["info", str(tmp_path), "--suggest"]) == 0
    assert "template    run7 488_300mW_t{t:d}_slice3.tif" in capsys.readouterr().out


def test_conventions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conventions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 2 * 40
    assert any(line.startswith("aollsm: ") for line in lines)


def test_what_is_done_and_how_long_it_took(acquisition, tmp_path, capsys):
    store, log = str(tmp_path / "a.zarr"), logging.getLogger("xarray_tiffstack")
    told = []
    for level in ("-v", "-vv"):
        shutil.rmtree(store, ignore_errors=True)
        assert main([level, "convert", str(acquisition), store, "--quiet"]) == 0
        told.append(capsys.readouterr().err.splitlines())
        log.handlers.clear()  # each has the standard error of its time
    assert main(["convert", str(acquisition), store, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    few, many = told
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d .*: \d+\.\d\d s", line) for line in few + many)
    for part in (f"15 TIFFs in {acquisition}", "names read by aollsm", "3 of 3 blocks to write"):
        assert sum(part in line for line in few) == 1
    blocks = [line for line in many if "block (" in line]
    assert len(blocks) == 3
    assert all(str(acquisition) in line and ".tif to " in line for line in blocks)
    assert not any("block (" in line for line in few)


@pytest.mark.parametrize(
    ("typed", "told"),
    {
        "convrt raw store": "did you mean convert?",
        "convert --chanks z=3 raw store": "tiffstack convert: error: .* did you mean --chunks[?]",
        "convert raw store --ngff-version 0.8": "did you mean 0.",
        "export raw out --kind imagj": "did you mean imagej?",
        "info raw --over x=3": "unrecognized arguments: --over",  # a short form, of --overlap
        "convert raw store --levels three": "argument --levels: takes a number, or auto",
        "convert raw store --chunks z": "such as z=1,y=2; not 'z'",
        "info raw --voxel-size a": "such as z=1,y=2, or one value; not 'a'",
        "info raw --storage-options anon": "such as anon=true; not 'anon'",
        "preview raw --contrast low,high": "two numbers, such as 100,900",
    }.items(),
)
def test_what_is_mistyped_is_answered_with_what_can_be_typed(typed, told, capsys):
    with pytest.raises(SystemExit) as exit_code:
        main(typed.split())
    assert exit_code.value.code == 2
    assert re.search(told, capsys.readouterr().err.splitlines()[-1])


@pytest.mark.parametrize("typed", [["-v", "conventions"], ["conventions", "-v"]])
def test_the_log_is_asked_for_before_or_after_the_command(typed):
    assert make_parser().parse_args(typed).log == 1
    assert make_parser().parse_args(["conventions"]).log == 0


def test_a_shell_completes_commands_and_options(tmp_path):
    shtab = pytest.importorskip("shtab")
    script = tmp_path / "tiffstack"
    script.write_text(shtab.complete(make_parser(), "bash"))
    code = """
        source "$1"
        function=$(complete -p tiffstack | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        COMP_WORDS=(tiffstack "${@:2}"); COMP_CWORD=$#; COMP_CWORD=$((COMP_CWORD - 1))
        $function tiffstack "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        echo "${COMPREPLY[@]}"
    """
    for typed, completed in {
        ("con",): "conventions convert",
        ("convert", "--ov"): "--overlap --overwrite",
        ("convert", "--ngff-version", ""): "0.6 0.5 0.4",
    }.items():
        command = ["bash", "-c", code, "bash", str(script), *typed]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == completed

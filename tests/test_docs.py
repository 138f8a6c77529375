"""Every block of the README and of docs/ is run, and what it shows is what comes out.

A page of the gallery also writes the pictures that it shows; `ci/gallery.py` keeps them.

```python            doctest examples, or a script without prompts
```console           "$ command" lines, each with its output
```sh                commands
```toml              conventions: loaded, their examples parsed, and kept as names.toml
```text              not run

A page that needs what is no dependency says so in a comment: <!-- needs module -->
If one block alone does, this is before it: <!-- the next block needs module -->
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import sysconfig
import warnings
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tifffile
from conftest import reference_name
from test_private import PRIVATE

import xarray_tiffstack
from xarray_tiffstack import load_conventions
from xarray_tiffstack.demo import write_acquisition

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
GALLERY = sorted((ROOT / "docs" / "gallery").glob("*.md"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *GALLERY]
PICTURE = re.compile(r"!\[[^\]]*\]\((\.\./images/gallery/(\w+\.png))\)")
NEXT = re.compile(r"<!-- the next block needs (\w+) -->\s*\Z")
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS

# What installs, and what takes long and is run by the tests of its own. The files that such lines
# name are tested to be there.
NOT_RUN = ("pip install ", "git clone ", "cd ", "sh ci/")

# zarr says this of every store of format 3 that xarray consolidates.
pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a page runs: raw/ is the demo's acquisition, ex6-2/ the reference, of full size.

    The 597 files of the reference are links to one, which is sparse and takes no disk.
    """
    monkeypatch.setenv("MPLBACKEND", "agg")  # no window
    write_acquisition(tmp_path / "raw")
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(
        stack, shape=(201, 1024, 768), dtype="uint16", photometric="minisblack", metadata=None
    )
    (tmp_path / "ex6-2").mkdir()
    for i in range(597):
        os.link(stack, tmp_path / "ex6-2" / reference_name(*divmod(i, 199)))
    stack.unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def named(page: Path) -> str:
    """Name of a test: where the page lies below docs/."""
    return "/".join(page.parts[-2:] if page in GALLERY else page.parts[-1:])


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_page(page: Path, folder: Path) -> None:
    for module in needs(page):
        warnings.simplefilter("ignore", DeprecationWarning)  # in others' packages
        pytest.importorskip(module)
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    assert not re.search(r"```|\n\n {4,}\S", prose), f"{page.name}: code outside a fence"
    left = run_page(page, folder)
    if page in GALLERY and page.name != "index.md":
        assert pictures(page), "a page of the gallery shows a picture"
        for name in pictures(page):
            assert (folder / name).is_file(), f"{page.name} shows {name}, and does not draw it"
    if left:
        pytest.skip(f"ran, but for blocks: {', '.join(left)}")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two processes that compute, as machines of a cluster would."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.mark.parametrize("page", GALLERY, ids=named)
def test_a_page_of_the_gallery_runs_on_a_cluster(page: Path, folder: Path, cluster: Any) -> None:
    from distributed import Client

    for module in needs(page):
        warnings.simplefilter("ignore", DeprecationWarning)  # in others' packages
        pytest.importorskip(module)
    with Client(cluster):
        run_page(page, folder)


def needs(page: Path) -> list[str]:
    """Modules that a page imports, and that are no dependency."""
    return re.findall(r"<!-- needs (\w+) -->", page.read_text(encoding="utf-8"))


def pictures(page: Path) -> dict[str, Path]:
    """Give the pictures that a page of the gallery shows: as its code calls them, and the file."""
    found = PICTURE.findall(page.read_text(encoding="utf-8"))
    return {name: page.parent / target for target, name in found}


def lacking(module: str) -> str:
    """Say why a block that needs a module cannot run; empty where it can."""
    if find_spec(module) is None:
        return f"{module} is not installed"
    if module == "pyclesperanto":
        devices = []
        with warnings.catch_warnings(), suppress(RuntimeError):  # where there is no driver
            warnings.simplefilter("ignore", RuntimeWarning)
            import pyclesperanto

            devices = getattr(pyclesperanto, "list_available_devices", list)()
        return "" if devices else f"{module} finds no device (pocl-opencl-icd of Debian is one)"
    return ""


def run_page(page: Path, folder: Path) -> list[str]:
    """Run the blocks of a page in order, in `folder`, which is the working directory.

    Gives the reasons why blocks were left out.
    """
    text = page.read_text(encoding="utf-8")
    variables: dict[str, Any] = {"__name__": "__main__"}
    left = []
    for fence in FENCE.finditer(text):
        kind, block = fence.groups()
        line = text[: fence.start()].count("\n") + 1
        where = f"{page.name}, line {line}"
        needed = NEXT.search(text[: fence.start()])
        if needed and (reason := lacking(needed[1])):
            left.append(f"line {line}: {reason}")
        elif kind == "python" and ">>>" in block:
            run_examples(block, variables, where)
        elif kind == "python":
            exec(compile(block, where, "exec"), variables)
        elif kind == "console":
            nothing, *commands = re.split(r"^\$ ", block, flags=re.MULTILINE)
            assert not nothing, f"{where}: output without a command"
            for command, shown in (part.split("\n", 1) for part in commands):
                check(shown, run_command(command, where), f"{where}: {command}")
        elif kind == "sh":
            for command in block.splitlines():
                run_command(command, where)
        elif kind == "toml":
            (folder / "names.toml").write_text(block, encoding="utf-8")
            check_conventions(folder / "names.toml", where)
        else:
            assert kind == "text", f"{where}: a block of {kind or 'no'} kind cannot be tested"
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    return left


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target, _, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)(#([^)\s]+))?\)", text):
        there = page.parent / target if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


def test_the_gallery_is_complete() -> None:
    """Each page is in the list of pages and on the site; each picture is small, and shown."""
    index = (ROOT / "docs" / "gallery" / "index.md").read_text(encoding="utf-8")
    site = (ROOT / "ci" / "site.yml").read_text(encoding="utf-8")
    for page in GALLERY:
        assert page.name == "index.md" or f"]({page.name})" in index, page.name
        assert f"docs/gallery/{page.name}\n" in site, page.name
    kept = {*(ROOT / "docs" / "images" / "gallery").glob("*.png")}
    assert kept == {path.resolve() for page in GALLERY for path in pictures(page).values()}
    assert {path.name for path in kept if path.stat().st_size > 80_000} == set()


def anchors(page: Path) -> set[str]:
    """Give what can be linked to in a page, as GitHub names it."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_design_names_every_room() -> None:
    package = Path(xarray_tiffstack.__file__).parent
    modules = {path.stem for path in package.rglob("*.py")}
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+/?)`", page.split("## The rooms")[1].split("\n## ")[0]))
    assert named <= modules | {f"{room}/" for room in rooms}
    assert {f"{room}/" for room in rooms} <= named
    top = {path.stem for path in package.glob("*.py") if not path.stem.startswith("__")}
    assert top - {"messages"} <= named


def test_the_design_names_what_is_private() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    for place in PRIVATE:
        module, _, path = place.partition(":")
        assert module in page, place
        assert path.split(".")[-1] in page, place


def run_examples(block: str, variables: dict[str, Any], where: str) -> None:
    """Run a block of ``>>>`` lines; each sees the variables of the blocks above."""
    examples = doctest.DocTestParser().get_doctest(block, variables, where, where, 0)
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    said: list[str] = []
    runner.run(examples, out=said.append, clear_globs=False)
    variables.update(examples.globs)
    assert not runner.failures, "".join(said)


def run_command(command: str, where: str) -> str:
    """Run a command of a shell and give its output, or find the file that it names."""
    if command.startswith(NOT_RUN):
        for script in re.findall(r"\bci/[\w./-]+", command):
            assert (ROOT / script).is_file(), f"{where}: no {script}"
        return ""
    scripts = sysconfig.get_path("scripts")
    env = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, f"{where}: {command}\n{done.stderr}"
    return done.stdout


def check_conventions(path: Path, where: str) -> None:
    """Load conventions, and parse their examples."""
    for convention in load_conventions(path).values():
        assert convention.examples, where
        for example in convention.examples:
            parsed = [pattern.parse(example.name) for pattern in convention.patterns]
            assert example.tokens in parsed, f"{where}: {example.name}"


def check(shown: str, found: str, where: str) -> None:
    """Compare output as a doctest does."""
    example = doctest.Example(where, shown)
    checker = doctest.OutputChecker()
    if not checker.check_output(shown, found, FLAGS):
        pytest.fail(f"{where}\n{checker.output_difference(example, found, FLAGS)}")

"""Executors of other projects give the store that threads give: loky, MPI, submitit, Ray, jobs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from by_executor import convert, verify
from test_convert import tree

SCRIPT = Path(__file__).with_name("by_executor.py")
NEEDS = {
    "loky": "loky",
    "jobqueue": "dask_jobqueue",
    "mpi": "mpi4py",
    "submitit": "submitit",
    "ray": "ray",
}


@pytest.mark.parametrize("kind", NEEDS)
def test_the_store_of_an_executor_is_that_of_threads(kind, shared_acquisition, tmp_path):
    if find_spec(NEEDS[kind]) is None:
        pytest.skip(f"needs {NEEDS[kind]}")
    command = [sys.executable, str(SCRIPT)]
    if kind == "mpi":
        mpiexec = shutil.which("mpiexec", path=f"{sys.prefix}/bin{os.pathsep}{os.environ['PATH']}")
        if mpiexec is None:
            pytest.skip("needs mpiexec")
        processes = [mpiexec, "--oversubscribe", "-n", "3"]
        command = [*processes, sys.executable, "-m", "mpi4py.futures", str(SCRIPT)]
    # MPI is asked to run for root, too, as in a container; Ray not to ask for a token.
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    environment = {**os.environ, **allowed, "RAY_AUTH_MODE": "disabled", "PYTHONWARNINGS": "ignore"}
    store = tmp_path / "theirs.zarr"
    done = subprocess.run(
        [*command, kind, str(shared_acquisition), str(store)],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    own = str(shared_acquisition), str(tmp_path / "own.zarr")
    assert not convert(*own).failed
    assert verify(*own).ok
    assert tree(store) == tree(tmp_path / "own.zarr")

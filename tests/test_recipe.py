"""The recipe of conda-forge says what pyproject.toml says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

import xarray_tiffstack

ROOT = Path(__file__).parents[1]
ON_CONDA = {"dask": "dask-core", "matplotlib": "matplotlib-base"}
NOT_ON_CONDA: set[str] = set()  # extras that cannot be installed from there


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "recipe.yaml").read_text())
    return found


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def spelled(requirements: list[str]) -> set[str]:
    """Requirements as conda spells them."""
    found = set()
    for requirement in map(Requirement, requirements):
        name = ON_CONDA.get(requirement.name, requirement.name)
        if name not in NOT_ON_CONDA:
            found.add(f"{name} {requirement.specifier}".strip())
    return found


def test_the_recipe_needs_what_the_project_needs(
    recipe: dict[str, Any], project: dict[str, Any]
) -> None:
    python, *needed = recipe["requirements"]["run"]
    assert python == "python >=${{ python_min }}"
    assert set(needed) == spelled(project["dependencies"])
    extras = [one for extra in project["optional-dependencies"].values() for one in extra]
    assert set(recipe["requirements"]["run_constraints"]) == spelled(extras)


def test_the_recipe_is_of_this_project(recipe: dict[str, Any], project: dict[str, Any]) -> None:
    assert recipe["context"]["version"] == xarray_tiffstack.__version__
    assert f">={recipe['context']['python_min']}" == project["requires-python"]
    assert recipe["package"]["name"] == project["name"]
    assert recipe["about"]["summary"] == project["description"]
    assert recipe["about"]["license"] == project["license"]
    commands = [f"{name} = {place}" for name, place in project["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == commands
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert set(build) < set(recipe["requirements"]["host"])
    named = set(re.findall(r"\$\{\{ (\w+) \}\}", (ROOT / "docs" / "recipe.yaml").read_text()))
    assert named == set(recipe["context"])

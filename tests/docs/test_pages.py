"""The pages build without a warning, and agree with the projects they describe."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECTS = [ROOT / "pyproject.toml", *sorted((ROOT / "plugins").glob("*/pyproject.toml"))]
FRAGMENTS = sorted((ROOT / "changelog.d").glob("*.md"))


def project(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text())


def requirement_names(requirements: list[Any]) -> set[str]:
    listed = [re.split(r"[^A-Za-z0-9_.-]", entry)[0].lower() for entry in requirements if isinstance(entry, str)]
    return {name for name in listed if not name.startswith("compute-bridge")}


def described_under(heading: str) -> list[str]:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| ([a-z0-9-]+) \| \S", section, re.M)


@pytest.mark.timeout(300)
def test_the_pages_build_without_a_warning(tmp_path: Path):
    options = ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet"]
    command = [sys.executable, "-m", "sphinx", *options, "-b", "html", str(ROOT / "docs"), str(tmp_path)]
    result = subprocess.run(command, text=True, capture_output=True, check=False)

    assert result.returncode == 0, result.stderr


def test_every_dependency_to_run_has_a_reason():
    declared = [project(path)["project"]["dependencies"] for path in PROJECTS]

    assert described_under("To run") == sorted(set().union(*map(requirement_names, declared)))


def test_every_dependency_of_the_kit_has_a_reason():
    extras = project(ROOT / "pyproject.toml")["project"]["optional-dependencies"]

    assert described_under("To test a plugin") == sorted(requirement_names(extras["testing"]))


def test_every_tool_has_a_reason():
    groups = project(ROOT / "pyproject.toml")["dependency-groups"]

    assert described_under("To work on compute-bridge") == sorted(requirement_names(groups["dev"] + groups["docs"]))


def test_every_make_target_is_described():
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.M)
    described = re.findall(r"^\| `make ([a-z]+)` \| \S", (ROOT / "docs" / "develop.md").read_text(), re.M)

    assert sorted(described) == sorted(set(targets) - {"help"})


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda fragment: fragment.name)
def test_a_change_names_its_distribution(fragment: Path):
    names = "|".join(re.escape(project(path)["project"]["name"]) for path in PROJECTS)

    assert re.match(rf"({names}): \S", fragment.read_text())

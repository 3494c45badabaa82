"""The page first-backend.md takes a stranger from an empty folder to a backend that passes the suite."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compute_bridge.testing.installed import lay_out
from compute_bridge.testing.promises_page import page

PAGES = Path(__file__).parents[2] / "docs" / "plugin-author"
BLOCK = re.compile(r"^```(?:python|toml)\n# (?P<file>[\w/.-]+)\n(?P<text>.*?)^```$", re.M | re.S)


def match(pattern, text):
    found = re.search(pattern, text, re.M | re.S)
    assert found, f"the page has nothing like {pattern}"
    return found


@pytest.fixture
def text():
    return (PAGES / "first-backend.md").read_text()


@pytest.fixture
def project(text, tmp_path):
    """Write the files of the page, those that it shows in parts as one."""
    for block in BLOCK.finditer(text):
        file = tmp_path / "project" / block["file"]
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as part:
            part.write(block["text"])
    return tmp_path / "project"


@pytest.fixture
def python(project):
    """Run a Python in which the project is installed."""
    installed = project.parent / "installed"

    def run(*arguments):
        shutil.rmtree(installed, ignore_errors=True)
        installed.mkdir()
        lay_out(project, installed)
        environment = os.environ | {"PYTHONPATH": str(installed)}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)

    return run


def test_the_backend_of_the_page_keeps_every_promise(text, python):
    result = python("-m", "pytest", "-q")

    assert result.returncode == 0, result.stdout + result.stderr
    counts = match(r"^\$ python -m pytest -q\n\.\.\.\n(\d.*?) in \.\.\.$", text)[1]
    assert f"\n{counts} in " in result.stdout


def test_the_page_lists_its_files(text, project):
    listed = match(r"^```text\n(.*?)^```$", text)[1].split()

    assert sorted(listed) == sorted(str(path.relative_to(project)) for path in project.rglob("*.*") if path.is_file())


def test_without_the_shield_the_suite_says_what_the_page_says(text, project, python):
    backend = project / "src/compute_bridge_garage/backend.py"
    backend.write_text(backend.read_text().replace("shield=True", "shield=False"))
    test, said = match(r"and `(test_\w+)` fails with \*(.*?)\*", text).groups()
    result = python("-m", "pytest", "-q", "-k", test)

    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout + result.stderr
    assert said in result.stdout


def test_a_promise_may_be_put_off_with_a_reason(text, project, python):
    with (project / "tests/test_backend.py").open("a") as file:
        file.write(match(r"^```python\n# tests/test_backend.py: [^\n]*\n(.*?)^```$", text)[1])
    result = python("-m", "pytest", "-q", "-k", "test_ownership_survives_the_process")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 xpassed" in result.stdout


def test_the_host_finds_the_kind_as_the_page_shows(text, python):
    shown = match(r"^\$ compute-bridge plugins check\n\.\.\.\n(.*?)^\.\.\.$", text)[1]
    result = python("-m", "compute_bridge", "plugins", "check")

    assert result.returncode == 0, result.stdout + result.stderr
    assert shown in result.stdout


def test_the_table_of_the_page_is_what_the_kind_reads(text, python):
    table = match(r"^\[\[backend\]\]\nname = .*?\nkind = .*?\n(.*?)^```$", text)[1]
    code = (
        "import sys, tomllib\n"
        "from compute_bridge.adapters.boot_file import structure_table\n"
        "from compute_bridge_garage.backend import GarageConfig\n"
        "print(structure_table(tomllib.loads(sys.argv[1]), GarageConfig, 'backend[0]'))"
    )
    result = python("-c", code, table)

    assert result.stdout.startswith("GarageConfig(endpoint='https://garage.example'"), result.stderr


def test_the_page_of_promises_is_that_of_the_suite():
    shown = (PAGES / "backend-promises.md").read_text()

    assert shown == page(), (
        "run: python -m compute_bridge.testing.promises_page > docs/plugin-author/backend-promises.md"
    )

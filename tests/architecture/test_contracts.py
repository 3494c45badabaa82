"""Each rule on who may import whom is kept by the tree, and broken by a planted violation."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = "core/compute_bridge"

# name: (contract, {file: text to append})
VIOLATIONS: dict[str, tuple[str, dict[str, str]]] = {
    "a room sees the one above it": (
        "layers",
        {f"{CORE}/model/planted.py": "import compute_bridge.wire\n"},
    ),
    "a port sees the host": ("layers", {f"{CORE}/ports/planted.py": "import compute_bridge.host\n"}),
    "siblings see each other": (
        "layers",
        {f"{CORE}/adapters/planted.py": "def late():\n    import compute_bridge.host\n"},
    ),
    "the kit sees the adapters": ("layers", {f"{CORE}/testing/planted.py": "import compute_bridge.adapters\n"}),
    "a room that nobody named": ("layers", {f"{CORE}/utils.py": ""}),
    "two modules in a ring": (
        "rings",
        {
            f"{CORE}/host/planted_a.py": "import compute_bridge.host.planted_b\n",
            f"{CORE}/host/planted_b.py": "def late():\n    import compute_bridge.host.planted_a\n",
        },
    ),
    "a value that sleeps": ("model", {f"{CORE}/model/planted.py": "import anyio\n"}),
    "a value that knows its converter, for the type checker only": (
        "model",
        {f"{CORE}/model/planted.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import cattrs\n"},
    ),
    "a value that reads the clock": ("model", {f"{CORE}/model/planted.py": "from time import monotonic\n"}),
    "a codec that opens a file": ("wire", {f"{CORE}/wire/planted.py": "def late():\n    import sqlite3\n"}),
    "a cloud in the host": ("no-cloud", {f"{CORE}/host/planted.py": "def late():\n    import boto3\n"}),
    "asyncssh in the command line": ("no-cloud", {f"{CORE}/cli/planted.py": "import asyncssh\n"}),
    "a plugin in the kit": ("no-cloud", {f"{CORE}/testing/planted.py": "import compute_bridge_rates\n"}),
    "hypothesis at the start of pytest": ("pytest-plugin", {f"{CORE}/_pytest_plugin.py": "import hypothesis\n"}),
    "a second user of dcap-qvl": ("quotes", {f"{CORE}/host/planted.py": "import dcap_qvl\n"}),
    "a plugin sees another": (
        "independent",
        {"plugins/market/src/compute_bridge_market/planted.py": "import compute_bridge_rates\n"},
    ),
    "a plugin behind the door": (
        "door",
        {"plugins/rates/src/compute_bridge_rates/planted.py": "def late():\n    import compute_bridge.host\n"},
    ),
    "a second user of asyncssh": (
        "ssh",
        {"plugins/baremetal/src/compute_bridge_baremetal/planted.py": "import asyncssh\n"},
    ),
}


def run_contracts(tree: Path, *options: str) -> subprocess.CompletedProcess[str]:
    sources = [tree / "core", *sorted(tree.glob("plugins/*/src"))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sources))}
    program = str(Path(sys.executable).with_name("lint-imports"))
    command = [program, "--no-cache", "--config", "pyproject.toml", *options]
    return subprocess.run(
        command, cwd=tree, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    skipped = shutil.ignore_patterns("__pycache__", "tests", "*.egg-info")
    for part in ("core", "plugins"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=skipped)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_tree_keeps_every_contract(tree: Path):
    result = run_contracts(tree)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_a_planted_violation_breaks_its_contract(tree: Path, violation: str):
    contract, files = VIOLATIONS[violation]
    for name, text in files.items():
        with (tree / name).open("a") as file:
            file.write(text)

    result = run_contracts(tree, "--contract", contract)

    assert "0 kept, 1 broken" in result.stdout, result.stdout


def test_the_one_module_that_may_touch_asyncssh_may(tree: Path):
    with (tree / "plugins/baremetal/src/compute_bridge_baremetal/ssh.py").open("a") as file:
        file.write("import asyncssh\n")

    result = run_contracts(tree, "--contract", "ssh")

    assert "1 kept, 0 broken" in result.stdout, result.stdout

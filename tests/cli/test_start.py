"""What the command line imports before it is needed, and how long a bare answer takes."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import compute_bridge

BUDGET_S = 0.15
RUN = """
import json, sys
before = set(sys.modules)
sys.argv = ["compute-bridge", *json.loads(sys.argv[1])]
from compute_bridge.__main__ import main
code = main()
sys.stderr.write(json.dumps([code, sorted(set(sys.modules) - before)]))
"""
# What must not be imported before its first use, whatever is installed.
HEAVY = (
    "asyncssh",
    "azure",
    "boto3",
    "botocore",
    "dcap_qvl",
    "fastapi",
    "flask",
    "google",
    "nats",
    "starlette",
    "uvicorn",
)
PLUGINS = tuple(f"compute_bridge_{name}" for name in ("baremetal", "demo", "ledger", "market", "rates", "routing"))


def imported_by(arguments: list[str], *, code: int = 0, cwd: Path | None = None) -> set[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COMPUTE_BRIDGE_")}
    command = [sys.executable, "-c", RUN, json.dumps(arguments)]
    result = subprocess.run(command, env=environment, text=True, capture_output=True, check=False, cwd=cwd)
    found, modules = json.loads(result.stderr.splitlines()[-1])
    assert found == code, result.stdout + result.stderr
    return set(modules)


def among(modules: Iterable[str], names: Iterable[str]) -> list[str]:
    return sorted(module for module in modules if module.split(".")[0] in set(names))


def test_the_version_imports_nothing_but_the_package():
    assert imported_by(["--version"]) == {"compute_bridge", "compute_bridge.__main__"}


def test_the_help_reads_metadata_only():
    modules = imported_by(["--help"])
    expected = {"__main__", "cli", "cli.commands", "cli.main", "model", "model.errors"}

    assert {name for name in modules if name.startswith("compute_bridge.")} == {f"compute_bridge.{e}" for e in expected}
    assert among(modules, [*HEAVY, *PLUGINS, "anyio", "asyncio", "attr", "attrs", "click", "pluggy", "sqlite3"]) == []


def test_the_list_of_plugins_imports_no_plugin():
    assert among(imported_by(["plugins", "list"]), [*HEAVY, *PLUGINS, "asyncio", "cryptography", "sqlite3"]) == []


def test_the_check_of_plugins_imports_no_sdk():
    modules = imported_by(["plugins", "check"])

    assert among(modules, HEAVY) == []
    assert "compute_bridge_rates.hooks" in modules


def test_the_schema_imports_no_plugin_but_the_one_it_describes():
    modules = imported_by(["config", "schema", "--kind", "rate_policies/cost-plus"])

    assert {name.split(".")[0] for name in modules if name.startswith("compute_bridge_")} == {"compute_bridge_rates"}
    assert among(modules, [*HEAVY, "asyncio", "cryptography"]) == []


def test_a_check_of_the_boot_file_imports_what_the_file_names(tmp_path: Path):
    (tmp_path / "bridge.toml").write_text("")

    modules = imported_by(["config", "check"], code=3, cwd=tmp_path)

    assert among(modules, [*HEAVY, *PLUGINS]) == []


def test_the_boot_imports_nothing_heavy_before_its_first_use():
    command = [sys.executable, "-c", "import sys, compute_bridge.boot; print(*sorted(sys.modules))"]
    modules = subprocess.run(command, text=True, capture_output=True, check=True).stdout.split()

    assert among(modules, [*HEAVY, *PLUGINS]) == []


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_a_bare_answer_is_quick(argument: str):
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "compute_bridge", argument], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # The least of several: what else the machine does only ever adds.
    assert min(seconds() for _ in range(5)) < BUDGET_S


def test_the_installed_program_answers():
    program = Path(sys.executable).with_name("compute-bridge")
    told = subprocess.run([program, "--version"], text=True, capture_output=True, check=True).stdout

    assert told == f"compute-bridge {compute_bridge.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["plugins", "list"]])
def test_a_reader_who_leaves_early_is_not_complained_of(arguments: list[str]):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "compute_bridge", *arguments]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    result = subprocess.run(command, env=buffered, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)

    assert (result.returncode, result.stderr) == (1, b"")

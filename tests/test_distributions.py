"""Every distribution installs and works in a clean environment, far from this repository."""

import difflib
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from compute_bridge import __version__

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml"))
FOLDERS = {"compute_bridge": ROOT, **{f"compute_bridge_{plugin}": ROOT / "plugins" / plugin for plugin in PLUGINS}}

pytestmark = pytest.mark.timeout(1200)

# Imports what the wheels hold, except what only test runs import, and prints how many modules that was.
IMPORT_ALL = """
import importlib, pkgutil, sys
names = [
    found.name
    for package in map(importlib.import_module, sys.argv[1:])
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    if not found.name.startswith(("compute_bridge.testing", "compute_bridge.__main__", "compute_bridge._pytest_plugin"))
]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    ours = ("COMPUTE_BRIDGE_", "PYTHON", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, text=True, capture_output=True, check=False
    )


def succeed(*command: str | Path, folder: Path) -> str:
    result = run(*command, folder=folder)
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


def environment(folder: Path, *wheels: Path) -> Path:
    """Return the ``bin`` folder of a new environment with these wheels, and what they depend on."""
    succeed(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    install(folder / "venv" / "bin", *wheels)
    return folder / "venv" / "bin"


def install(bin_: Path, *wheels: Path) -> None:
    how: list[str | Path] = ["--quiet", "--disable-pip-version-check", "--no-compile", "-c", ROOT / "constraints.txt"]
    succeed(bin_ / "python", "-m", "pip", "install", *how, *wheels, folder=bin_.parent)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    for project in FOLDERS.values():
        succeed(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, project, folder=folder)
    return folder


@pytest.fixture(scope="session")
def clean(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the ``bin`` folder of an environment that holds the wheels and what they depend on, nothing else."""
    return environment(tmp_path_factory.mktemp("clean"), *sorted(built.glob("*.whl")))


def wheel_of(built: Path, package: str) -> Path:
    [wheel] = built.glob(f"{package}-{__version__}-*.whl")
    return wheel


def wheel_names(built: Path, package: str) -> list[str]:
    with zipfile.ZipFile(wheel_of(built, package)) as archive:
        return archive.namelist()


def sdist_names(built: Path, package: str) -> list[str]:
    with tarfile.open(built / f"{package}-{__version__}.tar.gz") as archive:
        return [name.split("/", 1)[1] for name in archive.getnames()]


@pytest.mark.parametrize("package", FOLDERS)
def test_a_wheel_holds_its_package_and_nothing_else(built: Path, package: str):
    roots = {name.split("/", 1)[0] for name in wheel_names(built, package)}

    assert roots == {package, f"{package}-{__version__}.dist-info"}


@pytest.mark.parametrize("package", FOLDERS)
def test_a_wheel_holds_every_module_its_types_and_its_licence(built: Path, package: str):
    [source] = [path for path in (ROOT / "core", FOLDERS[package] / "src") if (path / package).is_dir()]
    modules = {str(path.relative_to(source)) for path in (source / package).rglob("*.py")}
    expected = modules | {f"{package}/py.typed", f"{package}-{__version__}.dist-info/licenses/LICENSE"}

    assert expected - set(wheel_names(built, package)) == set()


def test_the_sdist_of_the_host_holds_no_plugin(built: Path):
    tops = {name.split("/", 1)[0] for name in sdist_names(built, "compute_bridge")}

    assert tops == {"core", "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml", ".gitignore"}


@pytest.mark.parametrize("plugin", PLUGINS)
def test_the_sdist_of_a_plugin_is_its_folder(built: Path, plugin: str):
    tops = {name.split("/", 1)[0] for name in sdist_names(built, f"compute_bridge_{plugin}")}

    assert tops == {"src", "tests", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml", ".gitignore"}


@pytest.mark.parametrize("package", FOLDERS)
def test_no_distribution_names_the_machine_that_built_it(built: Path, package: str):
    with zipfile.ZipFile(wheel_of(built, package)) as archive:
        holding = [name for name in archive.namelist() if str(ROOT).encode() in archive.read(name)]

    assert holding == []


def test_the_version_is_told(clean: Path, tmp_path: Path):
    assert __version__ in succeed(clean / "compute-bridge", "--version", folder=tmp_path)


def test_the_help_names_every_command(clean: Path, tmp_path: Path):
    shown = succeed(clean / "compute-bridge", "--help", folder=tmp_path)

    for command in ("config", "demo", "explain", "market", "plugins", "request", "run", "verify"):
        assert re.search(rf"^ *{command}  +\S", shown, re.M), shown


def test_the_plugins_are_listed(clean: Path, tmp_path: Path):
    shown = succeed(clean / "compute-bridge", "plugins", "list", folder=tmp_path)

    for kind in ("baremetal", "cheapest", "cost-plus", "first-fit", "fixed", "ledger", "lowest-rate"):
        assert re.search(rf"\b{kind}\b", shown), shown


def test_every_module_imports_with_what_the_wheels_depend_on(clean: Path, tmp_path: Path):
    count = succeed(clean / "python", "-W", "error", "-c", IMPORT_ALL, *FOLDERS, folder=tmp_path)

    assert int(count) > len(FOLDERS)


def test_nothing_is_taken_from_the_repository(clean: Path, tmp_path: Path):
    program = "import importlib, sys; [print(importlib.import_module(name).__file__) for name in sys.argv[1:]]"
    files = succeed(clean / "python", "-c", program, *FOLDERS, folder=tmp_path).splitlines()

    assert [file for file in files if not Path(file).is_relative_to(clean.parent)] == []


MENU = [
    "--help",
    "--version",
    "plugins list",
    "config schema",
    "config schema --json",
    "config schema --kind rate_policies/fixed",
]
"""What an operator can choose from; the last is a kind that is not installed, and says what to install."""


def menu(bin_: Path, folder: Path) -> dict[str, list[str]]:
    shown = {command: run(bin_ / "compute-bridge", *command.split(), folder=folder) for command in MENU}
    return {command: [*(one.stdout + one.stderr).splitlines(), str(one.returncode)] for command, one in shown.items()}


def changed(before: list[str], after: list[str]) -> list[str]:
    return [line for line in difflib.ndiff(before, after) if line[0] in "+-"]


def page(name: str) -> str:
    """Return an operator's page with what it includes."""
    path = ROOT / "docs" / "operator" / f"{name}.md"
    included = re.findall(r"^```{include} (\S+)$", path.read_text(), re.M)
    return "".join(one.read_text() for one in [path, *(path.parent / file for file in included)])


def test_a_plugin_adds_its_kind_and_its_command_and_changes_nothing_else(built: Path, tmp_path: Path):
    bin_ = environment(tmp_path, wheel_of(built, "compute_bridge"))
    before = menu(bin_, tmp_path)
    for cloud in ("gcp", "aws", "azure"):
        install(bin_, wheel_of(built, f"compute_bridge_{cloud}"))
        after = menu(bin_, tmp_path)
        new = {command: changed(before[command], after[command]) for command in MENU}
        [help_line], [kind_line] = new.pop("--help"), new.pop("plugins list")
        before = after

        assert re.fullmatch(rf"\+  *{cloud}  +\S.*", help_line)
        assert kind_line.split() == [
            "+",
            cloud,
            f"compute-bridge-{cloud}",
            __version__,
            f"compute_bridge_{cloud}.hooks",
        ]
        assert list(new.values()) == [[], [], [], []]


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_a_kind_is_described_checked_and_has_a_page(clean: Path, tmp_path: Path, cloud: str):
    described = succeed(clean / "compute-bridge", "config", "schema", "--kind", f"backends/{cloud}", folder=tmp_path)
    checked = succeed(clean / "compute-bridge", "plugins", "check", folder=tmp_path)

    assert "backend[].address_cost: " in described
    assert f"ok     compute-bridge-{cloud} {__version__} compute_bridge_{cloud}.hooks\n" in checked
    assert f'kind = "{cloud}"' in page(cloud)


@pytest.mark.needs("sshd", "openssh-client")
def test_the_main_job_runs_far_from_the_repository(clean: Path, tmp_path: Path):
    told = json.loads(succeed(clean / "compute-bridge", "demo", "--json", folder=tmp_path))

    assert told["ssh"]["exit_status"] == 0
    assert set(told["verified"].values()) == {True}


def test_what_is_installed_agrees_with_itself(clean: Path, tmp_path: Path):
    succeed(clean / "python", "-m", "pip", "check", folder=tmp_path)

"""Every plugin is a complete project, known to every tool of the workspace."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from compute_bridge import __version__

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PLUGINS = sorted(folder.name for folder in (ROOT / "plugins").iterdir() if (folder / "pyproject.toml").exists())
PACKAGES = {f"compute_bridge_{plugin}" for plugin in PLUGINS}
PINS = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))


def project(plugin: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / "plugins" / plugin / "pyproject.toml").read_text())


def contract(name: str) -> dict[str, Any]:
    contracts: list[dict[str, Any]] = SETTINGS["tool"]["importlinter"]["contracts"]
    return next(found for found in contracts if found["id"] == name)


def requirement_name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def declared_requirements() -> set[str]:
    groups = [group for group in SETTINGS["dependency-groups"].values()]
    listed = [SETTINGS["project"]["dependencies"], *SETTINGS["project"]["optional-dependencies"].values(), *groups]
    listed += [project(plugin)["project"]["dependencies"] for plugin in PLUGINS]
    return {requirement_name(entry) for entries in listed for entry in entries if isinstance(entry, str)}


@pytest.mark.parametrize(
    "listed",
    [
        pytest.param(SETTINGS["tool"]["importlinter"]["root_packages"], id="architecture"),
        pytest.param(contract("independent")["modules"], id="independent"),
        pytest.param(contract("door")["source_modules"], id="door"),
        pytest.param(contract("no-cloud")["forbidden_modules"], id="no-cloud"),
        pytest.param(contract("rings")["ancestors"], id="rings"),
        pytest.param(SETTINGS["tool"]["ruff"]["lint"]["isort"]["known-first-party"], id="import order"),
        pytest.param(SETTINGS["tool"]["coverage"]["run"]["source_pkgs"], id="coverage"),
        pytest.param(SETTINGS["tool"]["pytest"]["ini_options"]["compute_bridge_guarded"], id="blocking calls"),
    ],
)
def test_every_plugin_is_listed(listed: list[str]):
    assert set(listed) >= PACKAGES


def test_every_room_behind_the_door_is_closed_to_plugins():
    rooms = {path.stem for path in (ROOT / "core" / "compute_bridge").iterdir() if path.suffix in {"", ".py"}}
    closed = rooms - {"__init__", "__pycache__", "api", "cloud", "model", "ports", "testing", "wire"}

    assert set(contract("door")["forbidden_modules"]) == {f"compute_bridge.{room}" for room in closed}


def test_every_plugin_is_type_checked():
    expected = {f"$MYPY_CONFIG_FILE_DIR/plugins/{plugin}/src" for plugin in PLUGINS}

    assert set(SETTINGS["tool"]["mypy"]["mypy_path"]) >= expected


def test_every_plugin_is_in_the_uv_workspace():
    names = {f"compute-bridge-{plugin}" for plugin in PLUGINS}

    assert set(SETTINGS["tool"]["uv"]["sources"]) >= names
    assert set(SETTINGS["dependency-groups"]["plugins"]) == names


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_is_a_complete_project(plugin: str):
    folder = ROOT / "plugins" / plugin
    expected = ["LICENSE", "README.md", f"src/compute_bridge_{plugin}/py.typed", "tests"]

    assert [name for name in expected if (folder / name).exists()] == expected


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_has_the_version_of_the_host(plugin: str):
    assert project(plugin)["project"]["version"] == __version__


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_pins_the_minor_version_of_the_host(plugin: str):
    major, minor = map(int, __version__.split(".")[:2])
    pin = f"compute-bridge>={major}.{minor},<{major}.{minor + 1}"

    assert pin in project(plugin)["project"]["dependencies"]


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_carries_the_licence_of_the_project(plugin: str):
    assert (ROOT / "plugins" / plugin / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("settings", [SETTINGS, *map(project, PLUGINS)], ids=["compute-bridge", *PLUGINS])
def test_every_command_has_one_help_line(settings: dict[str, Any]):
    groups = settings["project"].get("entry-points", {})
    helps = {name.split(" ", 1)[0]: target for name, target in groups.get("compute_bridge.command_help", {}).items()}

    assert helps == groups.get("compute_bridge.commands", {})


def test_every_dependency_is_pinned():
    names = {requirement_name(name) for name in PINS}
    ours = {"compute-bridge", *(f"compute-bridge-{plugin}" for plugin in PLUGINS)}

    assert declared_requirements() - ours - names == set()


def required_python(name: str) -> str:
    try:
        described = metadata(name)
    except PackageNotFoundError:
        return ""
    # Python 3.12 and later warn about asking for a key that is absent.
    return described["Requires-Python"] if "Requires-Python" in described else ""


@pytest.mark.parametrize("python", ["3.11.2", "3.12.0", "3.13.0"])
def test_what_is_pinned_installs_on_every_supported_python(python: str):
    refusing = [name for name in PINS if python not in SpecifierSet(required_python(name))]

    assert refusing == []


def test_the_hooks_use_the_pinned_tools():
    hooks = dict(re.findall(r'"(ruff|codespell)==([^"]+)"', (ROOT / ".pre-commit-config.yaml").read_text()))

    assert hooks == {name: PINS[name] for name in ("ruff", "codespell")}


def test_no_lock_file_is_committed():
    assert "uv.lock" in (ROOT / ".gitignore").read_text().splitlines()

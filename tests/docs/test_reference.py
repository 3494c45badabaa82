"""The reference pages and the code say the same: hooks, boot keys, commands, exit codes, errors."""

import importlib
import inspect
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compute_bridge import builtin, ports
from compute_bridge.adapters.boot_overrides import RESERVED
from compute_bridge.adapters.boot_settings import KeySpec, kind_schema, schema
from compute_bridge.cli import catalog as catalog_module
from compute_bridge.cli import config as config_module
from compute_bridge.cli import plugins as plugins_module
from compute_bridge.cli.exits import Exit, exit_code
from compute_bridge.model.errors import ComputeBridgeError
from compute_bridge.ports import hookspecs

ROOT = Path(__file__).parents[2]
BOOT_FILE = (ROOT / "docs" / "operator" / "boot-file.md").read_text()
CLI = (ROOT / "docs" / "operator" / "cli.md").read_text()
HOOKS = (ROOT / "docs" / "plugin-author" / "hooks.md").read_text()

HOOK_NAMES = [name for name in vars(hookspecs) if name.startswith("register_")]


def plain(docstring: str | None) -> str:
    """Return a docstring's first paragraph as Markdown on one line."""
    first = inspect.cleandoc(docstring or "").split("\n\n")[0]
    return " ".join(first.split()).replace("``", "`")


def row(spec: KeySpec) -> str:
    default = {None: "required", "none": "none"}.get(spec.default, f"`{spec.default}`")
    return f"| `{spec.key}` | {spec.holds} | {default} | {spec.help} |"


def error_classes() -> dict[str, type[ComputeBridgeError]]:
    for module in pkgutil.iter_modules(ports.__path__):
        importlib.import_module(f"{ports.__name__}.{module.name}")

    def below(cls: type[ComputeBridgeError]) -> Iterator[type[ComputeBridgeError]]:
        yield cls
        for inner in cls.__subclasses__():
            yield from below(inner)

    rooms = ("compute_bridge.model.", "compute_bridge.ports.")
    return {cls.__name__: cls for cls in below(ComputeBridgeError) if cls.__module__.startswith(rooms)}


# --- hooks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOOK_NAMES)
def test_every_hook_has_a_heading_with_its_signature_and_its_docstring(name: str):
    kind = inspect.signature(getattr(hookspecs, name)).return_annotation.__args__[0].__name__

    assert f"\n### {name}() -> list[{kind}]\n\n{plain(getattr(hookspecs, name).__doc__)}\n" in HOOKS


def test_no_heading_names_a_hook_that_is_not():
    assert re.findall(r"^### (register_\w+)", HOOKS, re.M) == HOOK_NAMES


def test_the_example_of_a_hooks_module_states_the_contract():
    assert f"\nCOMPUTE_BRIDGE_API = {hookspecs.PLUGIN_API}\n" in HOOKS


# --- the boot file --------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", schema(), ids=lambda spec: spec.key)
def test_every_key_of_the_boot_file_is_described(spec: KeySpec):
    assert spec.help
    assert f"\n{row(spec)}\n" in BOOT_FILE


def test_every_key_of_a_kind_in_the_box_is_described():
    specs = [
        *kind_schema(builtin.SqliteNetworkConfig, "network"),
        *kind_schema(builtin.SoftwareQuotesConfig, "attestation"),
    ]

    assert [row(spec) for spec in specs if f"\n{row(spec)}\n" not in BOOT_FILE] == []


def test_no_key_is_described_that_is_not():
    described = set(re.findall(r"^\| `([a-z_.\[\]]+)` \|", BOOT_FILE, re.M))
    kinds = {"network": builtin.SqliteNetworkConfig, "attestation": builtin.SoftwareQuotesConfig}
    known = {spec.key for spec in schema()}
    known |= {spec.key for key, cls in kinds.items() for spec in kind_schema(cls, key)}

    assert described == known


def test_every_variable_with_another_purpose_is_described():
    rows = re.findall(r"^\| `(COMPUTE_BRIDGE_\w+)` \| (.*) \|$", BOOT_FILE, re.M)

    assert dict(rows) == {name: purpose.replace("--config", "`--config`") for name, purpose in RESERVED.items()}


# --- the command line -----------------------------------------------------------------------------


def commands_of_the_workspace() -> set[str]:
    projects = [ROOT / "pyproject.toml", *sorted((ROOT / "plugins").glob("*/pyproject.toml"))]
    found: set[str] = set()
    for project in projects:
        settings: dict[str, Any] = tomllib.loads(project.read_text())["project"]
        found |= set(settings.get("entry-points", {}).get("compute_bridge.commands", {}))
    return found


def test_every_command_is_described():
    described = set(re.findall(r"^\| `compute-bridge (\w[\w-]*)(?: [\w-]+)?` \|", CLI, re.M))

    assert described == commands_of_the_workspace()


MODULES = [catalog_module, config_module, plugins_module]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_subcommand_is_described(module: Any):
    word = module.__name__.rpartition(".")[2]
    group: Any = getattr(module, f"_{word}")

    assert {name for name in group.commands if f"\n| `compute-bridge {word} {name}` |" not in CLI} == set()


def test_every_exit_code_is_described():
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| \S", CLI, re.M)

    assert [(int(code), name) for code, name in rows] == [(code.value, code.name) for code in Exit]


@pytest.mark.parametrize("name", sorted(error_classes()))
def test_every_class_of_error_is_described_with_its_exit_code(name: str):
    cls = error_classes()[name]
    code = exit_code(cls.__new__(cls))

    assert f"\n| `{name}` | {code.value} | {plain(cls.__doc__)} |\n" in CLI


def test_no_class_of_error_is_described_that_is_not():
    assert set(re.findall(r"^\| `(\w+Error)` \|", CLI, re.M)) == set(error_classes())

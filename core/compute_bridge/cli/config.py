"""``compute-bridge config``: check, show or describe the boot file."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import click

from compute_bridge.adapters.boot_file import LoadedBoot, load_boot, require_secrets, resolved_digest
from compute_bridge.adapters.boot_settings import KeySpec, kind_schema, schema, settings
from compute_bridge.adapters.clock import SystemClock
from compute_bridge.adapters.secrets import write_secret
from compute_bridge.cli.context import load_plugins, say
from compute_bridge.cli.exits import Exit, exit_code
from compute_bridge.cli.options import config_option, json_option, set_option
from compute_bridge.host.plugins import Plugins
from compute_bridge.ports.command import CommandContext
from compute_bridge.ports.errors import BootError, BootFileError

ROOT_KEY_BYTES = 32


def config(context: CommandContext) -> int:
    """Run ``compute-bridge config``."""
    return int(_config.main(context.arguments, "compute-bridge config", standalone_mode=False) or 0)


@click.group(name="config", help="Check, show or describe the boot file.")
def _config() -> None: ...


@_config.command(short_help="Check file, plugins and secrets.")
@config_option
@set_option
@json_option
@click.option("--skip-secrets", is_flag=True, help="Do not read the secrets that the file refers to.")
def check(config: Path, flags: Mapping[str, str], *, as_json: bool, skip_secrets: bool) -> int:
    """Check the boot file, the plugins that it names, the handshake file, and that every secret can be read."""
    try:
        report = _check(config, flags, skip_secrets=skip_secrets)
    except BootError as error:
        if not as_json:
            raise
        faults = [attrs.asdict(fault) for fault in error.faults] if isinstance(error, BootFileError) else []
        say(json.dumps({"valid": False, "error": str(error), "faults": faults}))
        return exit_code(error)
    if as_json:
        say(json.dumps({"valid": True, **report}))
    else:
        say(f"{config}: valid; {report['secrets']} secrets, digest {report['digest'][:12]}")
    return Exit.OK


@_config.command(short_help="Show every value in force.")
@config_option
@set_option
@json_option
@click.option("--origin", is_flag=True, help="Tell of each value whether flag, environment, file or default gave it.")
def show(config: Path, flags: Mapping[str, str], *, as_json: bool, origin: bool) -> int:
    """Show every value in force, with flags and environment applied; secrets as their references."""
    loaded = load_boot(config, flags=flags)
    configs, _ = open_kinds(loaded)
    found = settings(loaded, configs)
    if as_json:
        told = {one.key: {"value": one.value, "origin": one.origin} if origin else one.value for one in found}
        say(json.dumps(told, indent=2))
        return Exit.OK
    width = max(len(one.text) for one in found) if origin else 0
    for one in found:
        say(f"{one.text.ljust(width)}  # {one.origin}" if origin else one.text)
    return Exit.OK


@_config.command("schema", short_help="Describe every key.")
@json_option
@click.option(
    "--kind", "kinds", multiple=True, metavar="GROUP/KIND", help="Describe a kind's keys: backends/baremetal."
)
def describe(kinds: tuple[str, ...], *, as_json: bool) -> int:
    """Describe every key that may stand in the boot file, or in the table of a kind."""
    specs = [spec for kind in kinds for spec in _kind_specs(kind)] if kinds else list(schema())
    if as_json:
        say(json.dumps([attrs.asdict(spec) for spec in specs], indent=2))
        return Exit.OK
    for spec in specs:
        say(_line(spec))
    return Exit.OK


@_config.command("new-key", short_help="Make an operator root key.")
@click.argument("path", type=click.Path(path_type=Path))
def new_key(path: Path) -> int:
    """Write a new operator root key to PATH, mode 0600, as 64 hex digits. It must not exist yet."""
    write_secret(path, secrets.token_hex(ROOT_KEY_BYTES).encode() + b"\n")
    say(f'{path}: written; name it in the boot file as root_key = "file:{path}", and keep a copy where no bridge runs')
    return Exit.OK


@_config.command("new-attester", short_help="Make the root of a development attester.")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--root", default="development", show_default=True, help="The root's name, which verifiers see.")
def new_attester(directory: Path, root: str) -> int:
    """Make the root of a development attester in DIRECTORY, for trials on machines without TDX.

    A root that is there already stays. Its quotes prove nothing about hardware.
    """
    from compute_bridge.adapters.software_root import anchor_file, create_root

    create_root(directory, root, now_s=SystemClock().utc_ms() // 1000)
    path = anchor_file(directory, root)
    say(f"{path}: the public root; allow it in words, and name it an anchor, wherever its quotes shall count")
    return Exit.OK


def open_kinds(loaded: LoadedBoot) -> tuple[dict[str, Any], Plugins]:
    """Return the config of every kind that the file names, by its table's key, and the plugins that have them.

    :raises PluginError: if a plugin is missing or broken.
    :raises BootFileError: naming every fault of the kinds' tables at once.
    """
    choices = [(choice.group, choice.kind) for choice in loaded.boot.choices]
    plugins = load_plugins(choices, pins=loaded.boot.plugins, named_at=loaded.named_at)
    return loaded.configs(lambda choice: plugins.kind(choice.group, choice.kind).config), plugins


def _check(path: Path, flags: Mapping[str, str], *, skip_secrets: bool) -> dict[str, Any]:
    from compute_bridge.adapters.boot_inputs import read_handshake

    loaded = load_boot(path, flags=flags)
    configs, plugins = open_kinds(loaded)
    coalition = loaded.boot.coalition
    read_handshake(Path(coalition.handshake), coalition.fingerprint)
    return {
        "secrets": 0 if skip_secrets else require_secrets(loaded, configs),
        "digest": resolved_digest(loaded, measured=plugins.measured).hex(),
        "plugins": {found.distribution: found.pin for found in plugins.measurements},
    }


_TABLES = {
    "backends": "backend[]",
    "networks": "network",
    "shuffles": "shuffle",
    "quote_sources": "attestation",
    "rate_policies": "rate",
    "routing_policies": "routing",
    "settlements": "settlement",
    "reputation_policies": "reputation",
    "clearing_rules": "clearing",
}


def _kind_specs(text: str) -> tuple[KeySpec, ...]:
    group, slash, kind = text.partition("/")
    if not slash or group not in _TABLES:
        raise click.UsageError(f"--kind {text}: write GROUP/KIND, GROUP one of {', '.join(_TABLES)}")
    return kind_schema(load_plugins([(group, kind)]).kind(group, kind).config, _TABLES[group])


def _line(spec: KeySpec) -> str:
    default = "required" if spec.default is None else f"default {spec.default}"
    told = [f"{spec.key}: {spec.holds}; {default}", spec.help, spec.variable]
    return "\n    ".join(part for part in told if part)

"""``compute-bridge status``: how the running bridge is, in aggregates only."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from compute_bridge.adapters.boot_file import load_boot
from compute_bridge.adapters.status_socket import SOCKET, ask
from compute_bridge.cli.context import say
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.options import config_option, json_option, set_option
from compute_bridge.ports.command import CommandContext


def status(context: CommandContext) -> int:
    """Run ``compute-bridge status``."""
    return int(_status.main(context.arguments, "compute-bridge status", standalone_mode=False) or 0)


@click.command(name="status")
@config_option
@set_option
@json_option
def _status(config: Path, flags: Mapping[str, str], *, as_json: bool) -> int:
    """Ask the running bridge how it is; aggregates only, nothing of any requester."""
    state_dir = Path(load_boot(config, flags=flags).boot.bridge.state_dir)
    answer = ask(state_dir / SOCKET, {"ask": "status"})
    if as_json:
        say(json.dumps(answer, indent=2))
        return Exit.OK
    for line in _lines(answer, ""):
        say(line)
    return Exit.OK


def _lines(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for word, inner in value.items():
            yield from _lines(inner, f"{key}.{word}" if key else word)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for index, inner in enumerate(value):
            yield from _lines(inner, f"{key}[{index}]")
    else:
        yield f"{key}: {value if isinstance(value, str) else json.dumps(value)}"

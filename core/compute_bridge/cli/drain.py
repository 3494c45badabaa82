"""``compute-bridge drain``: let the running bridge take no new grants, and wait for its open leases."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from compute_bridge.adapters.boot_file import load_boot
from compute_bridge.adapters.status_socket import SOCKET, ask
from compute_bridge.cli.context import say
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.options import config_option, json_option, set_option
from compute_bridge.ports.command import CommandContext

LOOK_EVERY_MS = 500


def drain(context: CommandContext) -> int:
    """Run ``compute-bridge drain``."""
    return int(_drain.main(context.arguments, "compute-bridge drain", standalone_mode=False) or 0)


@click.command(name="drain")
@config_option
@set_option
@click.option("--undo", is_flag=True, help="Take grants again.")
@click.option("--wait", is_flag=True, help="Return when no lease is open; it may take as long as the longest lease.")
@json_option
def _drain(config: Path, flags: Mapping[str, str], *, undo: bool, wait: bool, as_json: bool) -> int:
    """Take no new grants and say so on the card; open leases run on to their ends.

    It holds until it is undone or the bridge stops: the next start sells again. SIGTERM drains as well,
    and then stops.
    """
    if undo and wait:
        raise click.UsageError("--undo takes grants again, so there is nothing to wait for; leave out --wait")
    socket = Path(load_boot(config, flags=flags).boot.bridge.state_dir) / SOCKET
    answer = ask(socket, {"ask": "drain", "undo": undo})
    if wait and answer["open"]:
        answer = _await_empty(socket)
    say(json.dumps(answer) if as_json else _told(answer))
    return Exit.OK


def _await_empty(socket: Path) -> dict[str, Any]:
    import anyio

    from compute_bridge.adapters.clock import SystemClock
    from compute_bridge.ports.clock import poll

    async def look() -> dict[str, Any] | None:
        status = await anyio.to_thread.run_sync(ask, socket, {"ask": "status"})
        return None if status["leases"]["open"] else {"draining": status["draining"], "open": 0}

    return anyio.run(poll, SystemClock(), LOOK_EVERY_MS, look)


def _told(answer: Mapping[str, Any]) -> str:
    if not answer["draining"]:
        return "selling: grants are taken again"
    return f"draining: no grant is taken; {answer['open']} leases are open"

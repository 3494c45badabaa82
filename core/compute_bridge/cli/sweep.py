"""``compute-bridge sweep``: what a fresh listing of every backend shows, and what follows from it."""

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

# A slow backend has a minute for its listing, and minutes for each machine that is ended.
PATIENCE_S = 900.0


def sweep(context: CommandContext) -> int:
    """Run ``compute-bridge sweep``."""
    return int(_sweep.main(context.arguments, "compute-bridge sweep", standalone_mode=False) or 0)


@click.command(name="sweep")
@config_option
@set_option
@click.option("--yes", "is_agreed", is_flag=True, help="Do what the rule allows now; the intent window still counts.")
@json_option
def _sweep(config: Path, flags: Mapping[str, str], *, is_agreed: bool, as_json: bool) -> int:
    """Show machines that belong to no lease and leases that have no machine.

    Asks the running bridge for a fresh listing. Touches nothing without --yes.
    """
    state_dir = Path(load_boot(config, flags=flags).boot.bridge.state_dir)
    question = {"ask": "sweep", "act": True} if is_agreed else {"ask": "sweep"}
    told = ask(state_dir / SOCKET, question, timeout_s=PATIENCE_S)
    if as_json:
        say(json.dumps(told, indent=2))
        return Exit.OK
    for line in _lines(told):
        say(line)
    return Exit.OK


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    for one in told["strays"]:
        of = f", of grant {one['grant'][:12]}," if one["grant"] else ""
        what = f"what stands of {one['instance']} ({one['remains']})" if one["remains"] else one["instance"]
        yield (
            f"{one['backend']}: stray {what}{of} seen for {_seconds(one['age_ms'])}: "
            f"{one['action']} [{one['reason']}] {one['detail']}"
        )
    for one in told["missing"]:
        yield (
            f"{one['backend']}: lease {one['lease'][:12]} misses {one['instance']} for {_seconds(one['for_ms'])}: "
            f"{one['action']} [{one['reason']}] {one['detail']}"
        )
    for one in told["twins"]:
        ids = ", ".join(one["instances"])
        yield f"{one['backend']}: lease {one['lease'][:12]} has the machines {ids}; none is ended, look at them"
    for one in told["silent"]:
        yield f"{one['backend']}: silent, its leases stand [{one['reason']}] {one['detail']}"
    yield _summary(told)


def _summary(told: Mapping[str, Any]) -> str:
    counts = f"{told['adopted']} machines of open leases, {len(told['strays'])} strays"
    actions = [one["action"] for one in (*told["strays"], *told["missing"])]
    waiting = len(actions) - actions.count("leave") - actions.count("wait")
    if told["acted"]:
        done = [one["reason"] for one in told["strays"]].count("reaped")
        return f"{counts}, {done} reaped, {actions.count('end')} leases ended"
    return f"{counts}; --yes would act on {waiting} of them" if waiting else f"{counts}; nothing to do"


def _seconds(ms: int) -> str:
    return f"{ms // 1000} s"

"""``compute-bridge explain``: why a grant, a route or a machine ended as it did."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from compute_bridge.cli.context import say
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.options import config_option, json_option, set_option
from compute_bridge.ports.command import CommandContext


def explain(context: CommandContext) -> int:
    """Run ``compute-bridge explain``."""
    return int(_explain.main(context.arguments, "compute-bridge explain", standalone_mode=False) or 0)


@click.command(name="explain")
@click.argument("id_", metavar="ID")
@config_option
@set_option
@json_option
def _explain(id_: str, config: Path, flags: Mapping[str, str], *, as_json: bool) -> int:
    """Tell the story of the grant or request whose id begins with ID (hex digits), or of a reaped machine.

    Asks the running bridge; where none runs, reads its journal.
    """
    from compute_bridge import boot

    stories = boot.explain(config, id_, flags)
    if as_json:
        say(json.dumps(stories, indent=2))
        return Exit.OK
    for story in stories:
        _tell(story)
    return Exit.OK


def _tell(story: Mapping[str, Any]) -> None:
    if story.get("instance"):
        of = f" of grant {story['grant_id']}" if story["grant_id"] else ", of no lease in the journal"
        say(f"instance {story['instance']}{of}: {story['state']}")
    else:
        say(f"grant {story['grant_id']} of request {story['request_id']}: {story['state']}")
    for line in story["lines"]:
        reason = f" [{line['reason']}]" if line["reason"] else ""
        say(f"  {_at(line['at_ms'])}  {line['event']}{reason}  {line['text']}")
    if story.get("money"):
        for text in _money(story["money"]):
            say(f"  {text}")


def _money(money: Mapping[str, Any]) -> Iterator[str]:
    currency, basis = money["currency"], money["basis"]
    if money["charge"] is None:
        yield f"charge: not known yet, at {money['rate']} micros {currency}/h"
    else:
        yield (
            f"charge: {money['charge']} micros {currency} for {money['billable_ms']} ms at {money['rate']} micros/h, "
            f"market fee {_known(money['market_fee'])}"
        )
    if basis:
        yield (
            f"cost: {_cost(money['cost'], basis)}: offer {basis['backend']}/{basis['offer']}, stated by "
            f"{basis['source']}, observed {_at(basis['observed_at'])}"
        )
    if money["margin"] is not None:
        yield f"margin: {money['margin']} micros {currency}"


def _cost(amount: int | None, basis: Mapping[str, Any]) -> str:
    if amount is None:
        return f"not known, at {basis['hourly_micros']} micros {basis['currency']}/h"
    return f"{amount} micros {basis['currency']} at {basis['hourly_micros']} micros/h"


def _known(amount: int | None) -> str:
    return "not known" if amount is None else str(amount)


def _at(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")

"""``compute-bridge explain``: why a grant, a route or a machine ended as it did."""

import json
from collections.abc import Mapping
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
        at = datetime.fromtimestamp(line["at_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        reason = f" [{line['reason']}]" if line["reason"] else ""
        say(f"  {at}  {line['event']}{reason}  {line['text']}")

"""``compute-bridge run``: run a bridge."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from compute_bridge.cli.options import config_option, set_option
from compute_bridge.ports.command import CommandContext


def run(context: CommandContext) -> int:
    """Run ``compute-bridge run``."""
    return int(_run.main(context.arguments, "compute-bridge run", standalone_mode=False) or 0)


@click.command(name="run")
@config_option
@set_option
@click.option(
    "--log-level",
    "level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least that is logged, on stderr.",
)
def _run(config: Path, flags: Mapping[str, str], level: str) -> int:
    """Run a bridge until it is told to stop: once to drain, twice to leave at once."""
    from compute_bridge import boot

    logging.basicConfig(stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return boot.run(config, flags)

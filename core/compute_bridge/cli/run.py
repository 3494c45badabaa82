"""``compute-bridge run``: run a bridge."""

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
def _run(config: Path, flags: Mapping[str, str]) -> int:
    """Run a bridge until it is told to stop: once to drain, twice to leave at once."""
    from compute_bridge import boot

    return boot.run(config, flags)

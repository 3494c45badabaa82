"""Options that several commands share."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

CONFIG_VARIABLE = "COMPUTE_BRIDGE_CONFIG"
DEFAULT_CONFIG = "bridge.toml"

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

config_option: Decorator = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    default=lambda: os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG),
    show_default=f"{CONFIG_VARIABLE}, or {DEFAULT_CONFIG}",
    help="The boot file.",
)

json_option: Decorator = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")


def _flags(_context: click.Context, _parameter: click.Parameter, pairs: tuple[str, ...]) -> Mapping[str, str]:
    flags = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter("write KEY=VALUE, such as bridge.max_leases=4")
        flags[key] = text
    return flags


set_option: Decorator = click.option(
    "--set",
    "flags",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_flags,
    help="Set one key over file and environment; may be given again.",
)

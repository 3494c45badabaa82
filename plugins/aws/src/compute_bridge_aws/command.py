"""``compute-bridge aws``: what an operator needs before the first lease."""

import json
from pathlib import Path
from typing import Any

import click
from attrs import field, frozen

from compute_bridge.api import CommandContext
from compute_bridge.model.boot import BackendSettings, about
from compute_bridge.ports.errors import BootError, BootFileError
from compute_bridge_aws.config import AwsConfig
from compute_bridge_aws.policy import policy

_KIND = "aws"


@frozen(kw_only=True)
class Tables:
    """The tables of a boot file that matter here; the others may be there or not."""

    backends: tuple[BackendSettings, ...] = field(metadata=about("one source of machines", key="backend"))
    others: dict[str, Any] = field(factory=dict, repr=False, metadata=about("everything else", rest=True))


def aws(context: CommandContext) -> int:
    """Run ``compute-bridge aws``."""
    arguments = list(context.arguments)
    return int(_aws.main(arguments, "compute-bridge aws", standalone_mode=False, obj=context) or 0)


@click.group(name="aws", help="Print the IAM policy that an account's bridge needs.")
def _aws() -> None: ...


@_aws.command(name="policy", short_help="Print the IAM policy for one backend of the boot file.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="COMPUTE_BRIDGE_CONFIG",
    show_envvar=True,
    default="bridge.toml",
    show_default=True,
    help="The boot file.",
)
@click.option("--backend", default="", help="Which backend, where the file has several of this kind.")
@click.pass_obj
def _policy(context: CommandContext, config: Path, backend: str) -> int:
    """Print the least that the identity of a backend must be allowed, as JSON."""
    tables: Tables = context.load(config, Tables)
    found = [
        (index, table)
        for index, table in enumerate(tables.backends)
        if table.kind == _KIND and backend in ("", table.name)
    ]
    if len(found) != 1:
        names = ", ".join(table.name for table in tables.backends if table.kind == _KIND) or "none"
        raise BootError(f"{config}: one backend of kind aws is meant, of: {names}; name it by --backend")
    [(index, table)] = found
    try:
        settings: AwsConfig = context.structure(table.settings, AwsConfig, f"backend[{index}]")
    except BootFileError as error:
        raise BootFileError(f"{config}: {error}", faults=error.faults) from error
    context.say(json.dumps(policy(settings), indent=2))
    return 0

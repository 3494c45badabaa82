"""``compute-bridge azure``: what the account of a bridge must grant it."""

import json

import click

from compute_bridge.api import CommandContext
from compute_bridge_azure.policy import commands, document


def azure(context: CommandContext) -> int:
    """Run ``compute-bridge azure``."""
    arguments = list(context.arguments)
    return int(_azure.main(arguments, "compute-bridge azure", standalone_mode=False, obj=context) or 0)


@click.group(name="azure", help="Print what a subscription of Azure must grant the bridge.")
def _azure() -> None: ...


@_azure.command(short_help="Print the role definitions and the rules of the security groups.")
@click.argument("subscription")
@click.argument("resource_group")
@click.option(
    "--network-group",
    "network_groups",
    multiple=True,
    metavar="NAME",
    help="The resource group of a subnet or security group; the other one, unless given.",
)
@click.option("--ssh-port", default=22, show_default=True, help="The port of the guests' SSH servers.")
@click.option("--metrics", is_flag=True, help="Also what a table with metrics = true needs.")
@click.option("--commands", "as_commands", is_flag=True, help="Print the commands that make and assign the roles.")
@click.option(
    "--principal", default="PRINCIPAL", show_default=True, help="Whom --commands assigns the roles: its object id."
)
@click.pass_obj
def policy(
    context: CommandContext,
    *,
    subscription: str,
    resource_group: str,
    network_groups: tuple[str, ...],
    ssh_port: int,
    metrics: bool,
    as_commands: bool,
    principal: str,
) -> int:
    """Print three role definitions, one for each place where they are assigned, and the rules of a security group.

    All of it is one JSON object. With --commands the roles are printed as commands for a shell instead.
    """
    found = document(subscription, resource_group, network_groups, ssh_port, metrics=metrics)
    if not as_commands:
        context.say(json.dumps(found, indent=2))
        return 0
    for command in commands(found["roles"], principal):
        context.say(command)
    return 0

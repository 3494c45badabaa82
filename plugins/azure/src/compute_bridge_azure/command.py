"""``compute-bridge azure``: what the account of a bridge must grant it."""

import json

import click

from compute_bridge.api import CommandContext
from compute_bridge_azure.policy import document


def azure(context: CommandContext) -> int:
    """Run ``compute-bridge azure``."""
    arguments = list(context.arguments)
    return int(_azure.main(arguments, "compute-bridge azure", standalone_mode=False, obj=context) or 0)


@click.group(name="azure", help="Print what a subscription of Azure must grant the bridge.")
def _azure() -> None: ...


@_azure.command(short_help="Print the role definitions and the rules of the security groups, as JSON.")
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
@click.pass_obj
def policy(
    context: CommandContext, subscription: str, resource_group: str, network_groups: tuple[str, ...], ssh_port: int
) -> int:
    """Print three role definitions, one for each place where they are assigned, and the rules of a security group.

    ``az role definition create --role-definition`` takes one of ``roles``.
    """
    context.say(json.dumps(document(subscription, resource_group, network_groups, ssh_port), indent=2))
    return 0

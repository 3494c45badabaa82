"""``compute-bridge gcp``: what an operator has to set up at Google; asks nobody and imports no SDK."""

import json
from collections.abc import Iterator

import click

from compute_bridge.api import CommandContext
from compute_bridge.model.resources import NetworkPolicy
from compute_bridge_gcp.policy import ROLE_ID, role, rule_command, wanted_rules


def gcp(context: CommandContext) -> int:
    """Run ``compute-bridge gcp``."""
    return int(_gcp.main(list(context.arguments), "compute-bridge gcp", standalone_mode=False, obj=context) or 0)


@click.group(name="gcp", help="What a project at Google needs for a backend of kind gcp.")
def _gcp() -> None: ...


@_gcp.command(name="policy", short_help="Print the role and the firewall rules that are enough.")
@click.option("--project", default="PROJECT", show_default=True, help="The project's id.")
@click.option("--network", default="NETWORK", show_default=True, help="The network that the machines are in.")
@click.option("--service-account", default="ACCOUNT", show_default=True, help="The service account's e-mail.")
@click.option("--ssh-port", default=22, show_default=True, help="The port of the guests' SSH servers.")
@click.option("--metrics", is_flag=True, help="Also what a table with metrics = true needs.")
@click.option("--commands", "as_commands", is_flag=True, help="Print the commands that make and bind the role.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: the role and the commands.")
@click.pass_obj
def _policy(
    context: CommandContext,
    *,
    project: str,
    network: str,
    service_account: str,
    ssh_port: int,
    metrics: bool,
    as_commands: bool,
    as_json: bool,
) -> int:
    """Print the role that the service account needs, as JSON, to be saved as role.json.

    With --commands the commands that make it of role.json, bind it, and make the network's firewall rules are printed
    instead. The bridge itself makes neither roles nor rules.
    """
    rules = wanted_rules(tuple(NetworkPolicy), ssh_port=ssh_port)
    told = [*_role_commands(project, service_account)]
    told += [(rule.why, rule_command(rule, project=project, network=network)) for rule in rules]
    if as_json:
        commands = [command for _, command in told]
        context.say(json.dumps({"role": role(metrics=metrics), "commands": commands}, indent=2))
    elif as_commands:
        for why, command in told:
            context.say(f"# {why}")
            context.say(command)
    else:
        context.say(json.dumps(role(metrics=metrics), indent=2))
    return 0


def _role_commands(project: str, account: str) -> Iterator[tuple[str, str]]:
    create = f"gcloud iam roles create {ROLE_ID} --project={project} --file=role.json"
    yield "make the role", create
    # Without a word on conditions gcloud asks for one wherever another binding of the project has one.
    member = f"--member=serviceAccount:{account} --role=projects/{project}/roles/{ROLE_ID} --condition=None"
    yield "give it to the service account", f"gcloud projects add-iam-policy-binding {project} {member}"

"""The role that is printed is enough, and no more; and the rules are those that doctor looks for."""

import inspect
import json

import pytest
from attrs import evolve

from compute_bridge.api import CommandContext
from compute_bridge.model.resources import NetworkPolicy
from compute_bridge.model.usage import UsageSource
from compute_bridge.ports.errors import CredentialsError
from compute_bridge.testing.hurried_clock import HurriedClock
from compute_bridge.testing.promises.situation import end, make
from compute_bridge_gcp.command import gcp
from compute_bridge_gcp.facts import rule_in
from compute_bridge_gcp.policy import CALLS, PERMISSIONS, meets, permissions, role, wanted_rules
from compute_bridge_gcp.sdk import Sdk, message_of
from compute_bridge_gcp.testing.fake import INSERT_NEEDS
from compute_bridge_gcp.testing.stock import RULES


def said(*arguments: str) -> str:
    lines: list[str] = []

    def no(*_arguments: object) -> object:
        raise AssertionError("the command asks for nothing from the outside")

    context = CommandContext(arguments, HurriedClock(), no, no, no, no, no, no, no, lines.append)  # type: ignore[arg-type]
    assert gcp(context) == 0
    return "\n".join(lines)


def test_every_call_of_the_slice_has_its_permissions_in_the_role():
    calls = {name for name, member in inspect.getmembers(Sdk, inspect.isfunction) if not name.startswith("_")}

    assert CALLS.keys() == calls
    assert {permission for needed in CALLS.values() for permission in needed} == {*permissions(metrics=True)}


def test_what_metrics_need_is_in_the_role_where_it_is_asked_for():
    bare, whole = (json.loads(said("policy", "--json", *more))["role"] for more in ((), ("--metrics",)))

    assert {"monitoring.timeSeries.list"} == set(whole["includedPermissions"]) - set(bare["includedPermissions"])
    assert set(bare["includedPermissions"]) < set(whole["includedPermissions"])


@pytest.mark.anyio
@pytest.mark.needs("sshd")
@pytest.mark.parametrize("metrics", [False, True])
async def test_the_role_is_enough_for_a_whole_lease(world, metrics):
    world.reconfigure(metrics=metrics)
    world.fake.granted = frozenset(role(metrics=metrics)["includedPermissions"])
    async with world.open() as backend:
        [offer, *_] = await backend.offers()
        instance = await make(world, backend, world.order(offer))
        usage = await backend.usage(instance.id)
        await end(world, backend, instance.id)
        await backend.watch_until_exit(instance.id)

    assert world.physics.existing() == ()
    assert (usage.core_ms.source is UsageSource.BACKEND) is metrics


@pytest.mark.anyio
@pytest.mark.parametrize("permission", INSERT_NEEDS)
async def test_without_one_permission_nothing_is_made(bare_world, permission):
    async with bare_world.open() as backend:
        [offer, *_] = await backend.offers()
        bare_world.fake.granted = frozenset(PERMISSIONS) - {permission}
        with pytest.raises(CredentialsError):
            await backend.provision(bare_world.order(offer))

    assert bare_world.physics.made() == ()


def test_the_command_prints_the_role_and_the_rules():
    told = json.loads(said("policy", "--json", "--project", "p-1", "--network", "net-1", "--ssh-port", "2222"))

    assert told["role"] == role()
    create, bind, *rules = told["commands"]
    assert (" --project=p-1 " in create, " p-1 " in bind) == (True, True)
    assert all("--project=p-1 --network=net-1" in command for command in rules)
    assert "--rules=tcp:2222" in rules[0]


def test_the_command_prints_for_people_too():
    assert role() == json.loads(said("policy"))
    assert role(metrics=True) == json.loads(said("policy", "--metrics"))
    told = said("policy", "--commands", "--service-account", "a@b.c")

    assert "\ngcloud projects add-iam-policy-binding PROJECT --member=serviceAccount:a@b.c" in told


def test_the_rules_that_are_printed_are_met_by_such_rules_and_by_no_weaker_one():
    rules = {one["name"]: rule_in(message_of("Firewall", one)) for one in RULES}
    for wanted in wanted_rules(tuple(NetworkPolicy), ssh_port=22):
        rule = rules[wanted.name]

        assert meets(rule, wanted)
        assert not meets(evolve(rule, allows=not rule.allows), wanted)
        assert not meets(evolve(rule, is_ingress=not rule.is_ingress), wanted)
        assert not meets(evolve(rule, target_tags=("other",)), wanted)
        assert not meets(evolve(rule, what=("udp:53",)), wanted)
        assert wanted.allows or not meets(evolve(rule, priority=65000), wanted)


def test_without_isolated_leases_no_egress_is_denied():
    names = [one.name for one in wanted_rules((NetworkPolicy.EGRESS,), ssh_port=22)]

    assert names == ["cb-allow-ssh", "cb-deny-neighbours"]

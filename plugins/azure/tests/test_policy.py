"""The roles that are printed are enough, and each operation of the slice has its actions there."""

import inspect
import json
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve

from compute_bridge.ports.errors import CredentialsError
from compute_bridge_azure.command import azure
from compute_bridge_azure.config import AzureImage
from compute_bridge_azure.policy import OPERATIONS, Reach, actions, commands, document
from compute_bridge_azure.sdk import Arm
from compute_bridge_azure.testing.images import FakeImage
from compute_bridge_azure.testing.world import GROUP, SUBSCRIPTION

ALL = sorted({action for reach in Reach for action in actions(reach, metrics=True)})


def test_every_operation_of_the_slice_has_its_actions():
    calls = {name for name, _ in inspect.getmembers(Arm, inspect.isfunction) if not name.startswith("_")}

    assert set(OPERATIONS) == calls


def test_no_role_has_a_wildcard_or_a_role_of_its_own():
    for action in ALL:
        assert "*" not in action
        assert not action.startswith("Microsoft.Authorization/roleAssignments")
    assert not any(action.endswith("/write") for action in actions(Reach.SUBSCRIPTION, metrics=True))


def test_the_command_prints_what_az_takes():
    lines: list[str] = []
    context: Any = SimpleNamespace(
        arguments=("policy", SUBSCRIPTION, GROUP, "--network-group", "net", "--ssh-port", "2222"), say=lines.append
    )

    assert azure(context) == 0
    printed = json.loads(lines[0])
    assert printed == document(SUBSCRIPTION, GROUP, ["net"], 2222, metrics=False)
    assert [role["AssignableScopes"] for role in printed["roles"]] == [
        [f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"],
        [f"/subscriptions/{SUBSCRIPTION}/resourceGroups/net"],
        [f"/subscriptions/{SUBSCRIPTION}"],
    ]


@pytest.mark.anyio
@pytest.mark.needs("sshd")
async def test_the_actions_are_enough_for_a_whole_life(world):
    world.arm.granted = tuple(ALL)
    async with world.open() as backend:
        instance = await backend.provision(world.order((await backend.offers())[0]))
        await backend.terminate(instance.id)
        findings = await backend.examine()

    assert [finding for finding in findings if finding.verdict != "ok"] == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    "image", ["galleries/ours/images/ubuntu/versions/1.2.3", "galleries/ours/images/ubuntu", "images/ubuntu"]
)
async def test_the_actions_are_enough_for_images_of_ones_own(bare, image):
    urn = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/pictures/providers/Microsoft.Compute/{image}"
    bare.arm.rules = evolve(bare.arm.rules, images={urn: FakeImage(places=("northeurope",))})
    bare.reconfigure(image_table=(AzureImage(name="ubuntu", urn=urn),))
    bare.arm.granted = tuple(ALL)
    async with bare.open() as backend:
        await backend.cloud.create(bare.order((await backend.offers())[0]))

    assert bare.physics.count("PutMachine") == 1


@pytest.mark.anyio
@pytest.mark.parametrize("missing", [action for action in ALL if "write" in action or "join" in action])
async def test_no_action_of_a_create_is_too_many(bare, missing):
    bare.arm.granted = tuple(action for action in ALL if action != missing)
    async with bare.open() as backend:
        order = bare.order((await backend.offers())[0])
        with pytest.raises(CredentialsError) as caught:
            await backend.provision(order)

    assert "AuthorizationFailed" in str(caught.value)
    assert bare.physics.made() == ()


def test_what_metrics_need_is_in_the_roles_where_it_is_asked_for():
    said: list[str] = []
    for more in ((), ("--metrics",)):
        context: Any = SimpleNamespace(arguments=("policy", SUBSCRIPTION, GROUP, *more), say=said.append)
        assert azure(context) == 0
    bare, whole = ({action for role in json.loads(line)["roles"] for action in role["Actions"]} for line in said)

    assert whole - bare == {"Microsoft.Insights/metrics/read"}
    assert bare < whole


def test_a_role_is_assigned_in_every_group_of_networks():
    roles = document(SUBSCRIPTION, GROUP, ["b", "a"], 22, metrics=False)["roles"]
    assigned = [line for line in commands(roles, "somebody") if line.startswith("az role assignment create ")]

    assert len(assigned) == 4
    assert sum("--role 'compute-bridge network'" in line for line in assigned) == 2

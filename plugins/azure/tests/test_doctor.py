"""What an examination finds, without making anything."""

import logging

import pytest
from attrs import evolve

from compute_bridge.cloud.tags import OWNER
from compute_bridge.model.resources import NetworkPolicy
from compute_bridge.ports.doctor import SupportsDoctor, Verdict
from compute_bridge_azure.policy import Reach, actions
from compute_bridge_azure.testing.answers import No
from compute_bridge_azure.testing.world import LOCATIONS, PRINCIPAL, TENANT, AzureWorld

pytestmark = pytest.mark.anyio


async def examined(world):
    async with world.open_backend() as backend:
        assert isinstance(backend, SupportsDoctor)
        findings = await backend.examine()
    assert not any(call.changes for call in world.physics.calls)
    return findings


async def faults(world):
    return {one.check: one for one in await examined(world) if one.verdict is Verdict.FAULT}


async def test_a_healthy_account_has_no_fault(bare):
    bare.sell(confidential=True)
    findings = await examined(bare)

    assert {one.verdict for one in findings} == {Verdict.OK}
    assert findings[0].check == "identity"
    assert TENANT in findings[0].detail
    assert PRINCIPAL in findings[0].detail
    checks = {one.check for one in findings}
    assert {f"permission {action}" for reach in Reach for action in actions(reach, metrics=False)} <= checks
    assert {"clock", "subscription", "disks", "disks without tags", "image ubuntu confidential in westeurope"} <= checks
    assert {"quota cores in northeurope", "network isolated in westeurope"} <= checks


async def test_another_identity_is_named_and_asks_nothing_more(bare):
    bare.tokens.principal = "33333333-3333-3333-3333-333333333333"
    [finding] = await examined(bare)

    assert (finding.check, finding.verdict) == ("identity", Verdict.FAULT)
    assert bare.tokens.principal in finding.detail
    assert {call.op for call in bare.physics.calls} <= {"Configuration", "Token"}


async def test_a_missing_permission_is_named(bare):
    missing = "Microsoft.Compute/virtualMachines/delete"
    bare.arm.granted = tuple(action for reach in Reach for action in actions(reach, metrics=False) if action != missing)

    assert list(await faults(bare)) == [f"permission {missing}"]


async def test_a_used_up_quota_is_named(bare):
    await bare.use_up_quota()

    names = ("cores", "standardDSv5Family")
    assert set(await faults(bare)) == {f"quota {name} in {place}" for name in names for place in LOCATIONS}


@pytest.mark.parametrize(
    ("shape", "changes", "is_fault"),
    [
        ("Standard_D2s_v5", {}, True),
        ("Standard_E*", {}, False),
        ("Standard_D2s_v5", {"spot": True, "on_demand": False}, False),
    ],
)
async def test_the_quota_of_each_family_on_sale_is_examined(bare, shape, changes, is_fault):
    bare.sell(shape, **changes)
    bare.arm.rules = evolve(bare.arm.rules, full_quotas=("standardDSv5Family",))
    found = await faults(bare)

    assert set(found) == ({f"quota standardDSv5Family in {place}" for place in LOCATIONS} if is_fault else set())


async def test_the_quota_of_a_family_that_is_never_started_is_not_examined(bare):
    bare.sell("Standard_D2s_v5", "Standard_DC4es_v5")
    bare.arm.rules = evolve(bare.arm.rules, full_quotas=("standardDCESv5Family",))

    assert await faults(bare) == {}


async def test_an_image_that_is_not_there_is_named(bare):
    bare.arm.rules = evolve(bare.arm.rules, images={})

    assert "image ubuntu in westeurope" in await faults(bare)


async def test_a_wall_with_a_hole_is_named(bare):
    groups = {id_: [] if "isolated" in id_ else rules for id_, rules in bare.arm.rules.security_groups.items()}
    bare.arm.rules = evolve(bare.arm.rules, security_groups=groups)
    found = await faults(bare)

    assert set(found) == {"network isolated in westeurope", "network isolated in northeurope"}
    assert "other machines of the virtual network get in" in found["network isolated in westeurope"].detail


async def test_a_policy_that_is_not_sold_is_not_examined(bare):
    bare.sell(networks=(NetworkPolicy.EGRESS,))

    assert not any("isolated" in one.check for one in await examined(bare))


async def test_a_subnet_that_is_not_there_is_told(bare):
    bare.arm.rules = evolve(bare.arm.rules, subnets=())
    found = await faults(bare)

    assert {check.split()[0] for check in found} == {"network"}
    assert "subnets/guests is not there" in found["network egress in westeurope"].detail


async def test_a_security_group_that_is_not_there_is_told(bare):
    bare.arm.rules = evolve(bare.arm.rules, security_groups={})

    assert "networkSecurityGroups/westeurope-egress is not there" in str(await faults(bare))


async def test_a_security_group_of_another_location_is_told(bare):
    rules = bare.arm.rules
    bare.arm.rules = evolve(
        rules, places={**rules.places, AzureWorld.security_group("westeurope", NetworkPolicy.EGRESS): "West US"}
    )
    found = await faults(bare)

    assert set(found) == {"network egress in westeurope"}
    assert "is in West US" in found["network egress in westeurope"].detail


async def test_a_subnet_that_cannot_be_read_is_no_fault_of_the_table(bare):
    bare.arm.refuse_next("GetSubnet", No(503, "ServerBusy"))
    [unknown] = [one for one in await examined(bare) if one.verdict is Verdict.UNKNOWN]

    assert unknown.check.startswith("network ")


@pytest.mark.parametrize(("skew_ms", "is_fault"), [(0, False), (-60_000, True), (3_600_000, True)])
async def test_a_wrong_clock_is_named(bare, skew_ms, is_fault):
    bare.arm.skew_ms = skew_ms

    assert ("clock" in await faults(bare)) is is_fault


def leave_disk(world, name, **tags):
    world.physics.add("disk", name, place="westeurope", tags=tags, document={"gib": 64})


async def test_a_disk_that_nothing_proves_ours_is_named_with_its_size_and_the_command(bare):
    leave_disk(bare, "cb-0123456789abcdef01234567-os")
    found = await faults(bare)

    assert set(found) == {"disks without tags"}
    assert "cb-0123456789abcdef01234567-os (64 GiB)" in found["disks without tags"].detail
    assert "az disk delete --subscription" in found["disks without tags"].mend
    assert "--resource-group bridge --name NAME" in found["disks without tags"].mend


@pytest.mark.parametrize(
    ("name", "owner", "is_told"),
    [
        ("cb-0123456789abcdef01234567-os", "bridge-under-test", True),
        ("cb-0123456789abcdef01234567-os", "another-bridge", False),
        ("a-disk-of-somebody", "", True),
    ],
)
async def test_a_disk_of_no_machine_is_named_unless_another_bridge_has_it(bare, name, owner, is_told):
    leave_disk(bare, name, **{OWNER: owner} if owner else {})
    found = await faults(bare)

    assert set(found) == ({"disks"} if is_told else set())


async def test_a_disk_of_a_machine_is_none_without(bare):
    async with bare.open() as backend:
        await backend.cloud.create(bare.order((await backend.offers())[0]))
    async with bare.open_backend() as backend:
        findings = await backend.examine()

    assert {one.verdict for one in findings if "disks" in one.check} == {Verdict.OK}


async def test_a_group_with_strangers_is_named(bare):
    bare.make_stranger()

    assert "resource group" in await faults(bare)


async def test_silence_is_a_finding(bare):
    bare.physics.go_down()
    findings = await examined(bare)

    assert {one.verdict for one in findings} == {Verdict.UNKNOWN}
    assert not any(secret in one.detail for one in findings for secret in bare.secrets())


async def test_the_permission_for_metrics_is_asked_where_the_table_reads_them(bare):
    bare.sell(metrics=True)
    bare.arm.granted = tuple(action for reach in Reach for action in actions(reach, metrics=False))
    found = await faults(bare)

    assert [*found] == ["permission Microsoft.Insights/metrics/read"]
    assert "`compute-bridge azure policy --metrics`" in str(found["permission Microsoft.Insights/metrics/read"])


@pytest.mark.parametrize("is_refused", [False, True], ids=["all is well", "the secret is refused"])
async def test_an_examination_leaves_no_word_of_the_sdk_in_the_log(bare, caplog, is_refused):
    caplog.set_level(logging.INFO)
    async with bare.open_backend() as backend:
        if is_refused:
            bare.tokens.secret = "another"
        findings = await backend.examine()

    assert {one.verdict for one in findings} == {Verdict.UNKNOWN if is_refused else Verdict.OK}
    assert not [one.getMessage() for one in caplog.records if one.name.startswith(("azure.", "msal"))]


async def test_a_clock_that_was_not_heard_is_told_with_what_to_do(bare):
    bare.physics.go_down()
    [clock] = [one for one in await examined(bare) if one.check == "clock"]

    assert (clock.verdict, clock.mend) == (Verdict.UNKNOWN, "run the doctor again once Azure answers")

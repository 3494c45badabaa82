"""The doctor finds what is wrong with an account before the first lease, and makes nothing."""

from typing import Any

import pytest
from attrs import evolve

from compute_bridge.model.boot import SecretRef
from compute_bridge.ports.doctor import Finding, Verdict
from compute_bridge_aws.backend import AwsBackend
from compute_bridge_aws.testing.stock import OLD_IMAGES
from compute_bridge_aws.testing.world import AwsWorld

pytestmark = pytest.mark.anyio


async def examine(world: AwsWorld) -> dict[str, Finding]:
    async with world.open_backend() as backend:
        assert isinstance(backend, AwsBackend)
        return {finding.check: finding for finding in await backend.examine()}


def wrong(found: dict[str, Finding]) -> dict[str, Finding]:
    return {check: one for check, one in found.items() if one.verdict is not Verdict.OK}


def without(policy: Any, action: str) -> dict[str, Any]:
    def rest(one: dict[str, Any]) -> dict[str, Any]:
        actions = [one["Action"]] if isinstance(one["Action"], str) else one["Action"]
        return {**one, "Action": [name for name in actions if name != action]}

    return {**policy, "Statement": [rest(one) for one in policy["Statement"]]}


async def test_a_fresh_account_is_well_but_for_what_cannot_be_asked_yet(bare: AwsWorld):
    found = await examine(bare)

    assert next(iter(found)) == "identity"
    assert "arn:aws:iam::123456789012:user/bridge of account 123456789012" == found["identity"].detail
    assert {
        "permission ec2:TerminateInstances eu-west-1",
        "permission ec2:TerminateInstances us-east-2",
    } == set(wrong(found))
    assert {
        "clock",
        "permission ec2:RunInstances eu-west-1",
        "permission ec2:CreateSecurityGroup us-east-2",
        "permission ec2:DescribeInstances eu-west-1",
        "permission pricing:GetProducts",
        "quota L-1216C47A eu-west-1",
        "subnet eu-west-1b",
        "image debian us-east-2",
    } <= set(found)
    assert (*bare.physics.made(), *bare.physics.resources()) == ()


async def test_another_account_is_the_last_thing_that_is_looked_at(bare: AwsWorld):
    bare.use(evolve(bare.config, access_key_id=SecretRef("env:FOREIGN_KEY_ID")))
    found = await examine(bare)

    assert ["identity"] == list(found)
    assert found["identity"].verdict is Verdict.FAULT
    assert "of account 999999999999, and the table pins 123456789012" in found["identity"].detail


async def test_silence_is_unknown_and_refused_credentials_are_a_fault(bare: AwsWorld):
    bare.physics.go_down()
    silent = await examine(bare)
    bare.physics.come_back()
    bare.physics.refuse_credentials()
    refused = await examine(bare)

    assert [silent["identity"].verdict, refused["identity"].verdict] == [Verdict.UNKNOWN, Verdict.FAULT]


async def test_a_wrong_clock_is_a_fault(bare: AwsWorld):
    bare.aws.skew_ms = -3_600_000
    found = await examine(bare)

    assert found["clock"].verdict is Verdict.FAULT
    assert "ahead of AWS" in found["clock"].detail


@pytest.mark.parametrize(
    ("action", "check"),
    [
        ("ec2:RunInstances", "permission ec2:RunInstances eu-west-1"),
        ("ec2:CreateTags", "permission ec2:RunInstances eu-west-1"),
        ("ec2:CreateSecurityGroup", "permission ec2:CreateSecurityGroup eu-west-1"),
        ("ec2:DescribeInstances", "permission ec2:DescribeInstances eu-west-1"),
        ("ec2:DescribeSpotInstanceRequests", "permission ec2:DescribeSpotInstanceRequests eu-west-1"),
        ("ec2:DescribeSpotPriceHistory", "permission ec2:DescribeSpotPriceHistory eu-west-1"),
        ("cloudwatch:GetMetricData", "permission cloudwatch:GetMetricData eu-west-1"),
        ("ec2:DescribeSubnets", "subnets eu-west-1"),
        ("ec2:DescribeImages", "images eu-west-1"),
        ("pricing:GetProducts", "permission pricing:GetProducts"),
        ("servicequotas:ListServiceQuotas", "quotas eu-west-1"),
    ],
)
async def test_a_permission_that_is_missing_is_named(bare: AwsWorld, action: str, check: str):
    bare.use(evolve(bare.config, spot=True, metrics=True))
    bare.aws.policy = without(bare.aws.policy, action)
    found = await examine(bare)

    assert found[check].verdict is Verdict.FAULT
    assert "UnauthorizedOperation" in found[check].detail or "AccessDenied" in found[check].detail


async def test_a_permission_to_end_is_asked_of_a_machine_of_ours(bare: AwsWorld):
    bare.physics.launch(
        region="eu-west-1", zone="eu-west-1a", shape="t3.micro", id="i-00000000", tags={"cb-owner": "operator-1"}
    )
    allowed = await examine(bare)
    bare.aws.policy = without(bare.aws.policy, "ec2:TerminateInstances")
    denied = await examine(bare)
    check = "permission ec2:TerminateInstances eu-west-1"

    assert [allowed[check].verdict, denied[check].verdict] == [Verdict.OK, Verdict.FAULT]
    assert len(bare.physics.existing()) == 1


async def test_images_subnets_and_regions_that_are_not_there_are_faults(bare: AwsWorld):
    here, there = bare.config.regions
    here = evolve(here, images={"debian": "ami-00000000"}, subnets={"eu-west-1a": "subnet-00000000"})
    bare.use(evolve(bare.config, regions=(here, there)))
    bare.aws.ec2.disabled = {"us-east-2"}
    found = wrong(await examine(bare))

    assert "ami-00000000 is not there" == found["image debian eu-west-1"].detail
    assert "subnet-00000000 is not there" == found["subnet eu-west-1a"].detail
    assert "not enabled: us-east-2" == found["regions"].detail


async def test_a_quota_that_is_used_up_is_a_fault(bare: AwsWorld):
    bare.physics.use_up_quota()
    found = await examine(bare)

    assert found["quota L-1216C47A eu-west-1"].verdict is Verdict.FAULT
    assert found["quota L-1216C47A eu-west-1"].detail == "0 of 0 vCPUs are used"


async def test_an_image_that_cannot_be_confidential_is_a_fault(bare: AwsWorld):
    tables = tuple(evolve(one, images={"debian": OLD_IMAGES[one.name]}) for one in bare.config.regions)
    bare.use(evolve(bare.config, confidential=True, regions=tables))
    found = await examine(bare)

    assert found["image debian eu-west-1"].mend == "map one that does"
    assert found["permission ec2:RunInstances eu-west-1"].verdict is Verdict.FAULT

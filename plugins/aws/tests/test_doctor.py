"""The doctor finds what is wrong with an account before the first lease, and makes nothing."""

from typing import Any

import pytest
from attrs import evolve

from compute_bridge.model.boot import SecretRef
from compute_bridge.ports.doctor import Finding, Verdict
from compute_bridge_aws.backend import AwsBackend
from compute_bridge_aws.sdk import Operation, service_model
from compute_bridge_aws.testing.stock import OLD_IMAGES, VPCS
from compute_bridge_aws.testing.world import AwsWorld

pytestmark = pytest.mark.anyio

KEY = "arn:aws:kms:eu-west-1:123456789012:key/0"
KEY_CALLS = ("CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext", "ReEncrypt*")
OF_A_GROUP = (
    "AuthorizeSecurityGroupEgress",
    "AuthorizeSecurityGroupIngress",
    "DeleteSecurityGroup",
    "RevokeSecurityGroupEgress",
    "RevokeSecurityGroupIngress",
)


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


def allowed(policy: Any) -> set[str]:
    many = [one["Action"] for one in policy["Statement"] if one["Effect"] == "Allow"]
    return {name for actions in many for name in ([actions] if isinstance(actions, str) else actions)}


def furnish(world: AwsWorld) -> None:
    """Have a machine and a security group of ours in one region."""
    tags = {"cb-owner": "operator-1"}
    world.physics.launch(region="eu-west-1", zone="eu-west-1a", shape="t3.micro", id="i-00000000", tags=tags)
    rules: dict[str, Any] = {"IpPermissions": frozenset(), "IpPermissionsEgress": frozenset()}
    group = {"GroupName": "cb-isolated-0", "Description": "", "VpcId": VPCS["eu-west-1"], **rules}
    world.physics.add("security-group", "sg-00000000", place="eu-west-1", tags=tags, document=group)


def unknown(found: dict[str, Finding]) -> set[str]:
    """Return the actions that the doctor says it does not know about."""
    return {check.split()[1] for check, one in found.items() if one.verdict is Verdict.UNKNOWN}


async def test_every_permission_of_the_policy_is_asked_for_or_said_to_be_unknown(bare: AwsWorld):
    only = bare.config.regions[:1]
    bare.use(evolve(bare.config, spot=True, metrics=True, kms_key=KEY, regions=only))
    fresh = unknown(await examine(bare))
    before = set(bare.aws.asked_of_iam)
    furnish(bare)
    made = bare.physics.resource("security-group", "sg-00000000")
    later = await examine(bare)

    assert before | fresh == bare.aws.asked_of_iam | unknown(later) == allowed(bare.aws.policy)
    assert before & fresh == bare.aws.asked_of_iam & unknown(later) == set()
    # Of a key nothing can be known; all else is, once there is what it can be asked of.
    assert unknown(later) == {"kms:" + name for name in KEY_CALLS}
    assert all("until the first machine starts" in later[f"permission kms:{name}"].detail for name in KEY_CALLS)
    assert {one.verdict for one in later.values()} == {Verdict.OK, Verdict.UNKNOWN}
    assert bare.physics.resource("security-group", "sg-00000000") == made
    assert len(bare.physics.existing()) == 1


def test_aws_has_a_dry_run_of_every_call_that_changes_something():
    ec2 = service_model("ec2")
    changing = {one for one in Operation if one.action.startswith("ec2:") and "Describe" not in one.name_in_api}

    assert {Operation.RUN, Operation.UNMAKE_GROUP} <= changing
    assert all("DryRun" in ec2.operation_model(one.name_in_api).input_shape.members for one in changing)


async def test_a_fresh_account_is_well_but_for_what_cannot_be_asked_yet(bare: AwsWorld):
    found = await examine(bare)

    assert next(iter(found)) == "identity"
    assert "arn:aws:iam::123456789012:user/bridge of account 123456789012" == found["identity"].detail
    assert {
        f"permission ec2:{action} {region}"
        for action in (*OF_A_GROUP, "TerminateInstances")
        for region in ("eu-west-1", "us-east-2")
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
        ("ec2:CreateTags", "permission spot ec2:RunInstances eu-west-1"),
        *((f"ec2:{action}", f"permission ec2:{action} eu-west-1") for action in (*OF_A_GROUP, "TerminateInstances")),
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
    bare.use(evolve(bare.config, spot=True, metrics=True, regions=bare.config.regions[:1]))
    furnish(bare)
    bare.aws.policy = without(bare.aws.policy, action)
    found = await examine(bare)

    assert found[check].verdict is Verdict.FAULT
    assert "UnauthorizedOperation" in found[check].detail or "AccessDenied" in found[check].detail


async def test_the_permission_to_make_a_spot_request_is_asked_apart(bare: AwsWorld):
    firm = bare.aws.policy
    bare.use(evolve(bare.config, spot=True))
    # As it was printed for a table without spot.
    bare.aws.policy = firm
    found = await examine(bare)

    assert found["permission ec2:RunInstances eu-west-1"].verdict is Verdict.OK
    assert found["permission spot ec2:RunInstances eu-west-1"].verdict is Verdict.FAULT


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


async def test_the_disk_of_a_dry_run_is_as_large_as_its_image(bare: AwsWorld):
    tables = tuple(evolve(one, images={"debian": OLD_IMAGES[one.name]}) for one in bare.config.regions)
    bare.use(evolve(bare.config, regions=tables))
    found = await examine(bare)

    assert found["permission ec2:RunInstances eu-west-1"].verdict is Verdict.OK


async def test_an_image_that_cannot_be_confidential_is_a_fault(bare: AwsWorld):
    tables = tuple(evolve(one, images={"debian": OLD_IMAGES[one.name]}) for one in bare.config.regions)
    bare.use(evolve(bare.config, confidential=True, regions=tables))
    found = await examine(bare)

    assert found["image debian eu-west-1"].mend == "map one that does"
    assert found["permission ec2:RunInstances eu-west-1"].verdict is Verdict.FAULT

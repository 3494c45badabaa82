"""Offers are left out that a quota has no room for; a figure that is not known leaves nothing out."""

import pytest

from compute_bridge_aws.quotas import code_for, used_by
from compute_bridge_aws.testing.world import AwsWorld

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("shape", "spot", "code"),
    [
        ("t3.micro", False, "L-1216C47A"),
        ("m7i.large", True, "L-34B43A08"),
        ("g4dn.xlarge", False, "L-DB2E81BA"),
        ("vt1.3xlarge", False, "L-DB2E81BA"),
        ("p5.48xlarge", False, "L-417A185B"),
        ("quantum9.large", False, ""),
    ],
)
def test_each_family_counts_to_its_quota(shape: str, spot: bool, code: str):
    assert code == code_for(shape, spot=spot)


def test_what_runs_counts_by_its_vcpus_and_spot_apart():
    cpus = {"CpuOptions": {"CoreCount": 2, "ThreadsPerCore": 2}}
    used = used_by(
        [{"InstanceType": "m7i.xlarge", **cpus}, {"InstanceType": "c6a.xlarge", "InstanceLifecycle": "spot", **cpus}]
    )

    assert used == {"L-1216C47A": 4, "L-34B43A08": 4}


async def test_an_offer_is_gone_when_a_stranger_has_the_quota(bare: AwsWorld):
    bare.physics.vcpu_quota = 3
    async with bare.open() as backend:
        before = {one.region for one in await backend.offers()}
        bare.make_stranger()
        after = {one.region for one in await backend.offers()}

    assert before == {"eu-west-1", "us-east-2"}
    assert after == {"us-east-2"}


async def test_a_quota_that_is_not_told_leaves_nothing_out(bare: AwsWorld, caplog: pytest.LogCaptureFixture):
    statements = bare.aws.policy["Statement"]
    reads = [one for one in statements[0]["Action"] if not one.startswith("servicequotas")]
    bare.aws.policy = {**bare.aws.policy, "Statement": [statements[0] | {"Action": reads}, *statements[1:]]}
    async with bare.open() as backend:
        offers = await backend.offers()
        await backend.offers()

    assert offers != ()
    assert caplog.text.count("the quotas of eu-west-1 filter nothing for now") == 1

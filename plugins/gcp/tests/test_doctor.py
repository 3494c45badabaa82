"""What is lacking is found before the first grant, by reads alone; under another identity nothing is asked."""

import pytest
from anyio import to_thread
from attrs import evolve

from compute_bridge.model.ids import BackendName
from compute_bridge.ports.backend import BackendContext
from compute_bridge.ports.doctor import Verdict
from compute_bridge.ports.errors import BootError, CredentialsError
from compute_bridge.testing.hurried_clock import HurriedClock
from compute_bridge_gcp.backend import GcpBackend, open_backend
from compute_bridge_gcp.policy import PERMISSIONS
from compute_bridge_gcp.sdk import Sdk
from compute_bridge_gcp.testing.stock import ACCOUNT, IMAGES, RULES
from compute_bridge_gcp.testing.tokens import key_file

pytestmark = pytest.mark.anyio


class Practice:
    """A doctor and a project to examine; the wire has dates by the real clock, and so has the bridge."""

    def __init__(self, world):
        self.world = world
        self.clock = HurriedClock(speed=1)

    async def backend(self):
        context = BackendContext(BackendName("gcp-1"), self.clock, lambda reference: self.world.key)
        return await to_thread.run_sync(open_backend, context, self.world.config)

    async def findings(self):
        return {one.check: one for one in await (await self.backend()).examine()}

    async def fault(self, check):
        finding = (await self.findings())[check]
        assert Verdict.FAULT is finding.verdict
        assert finding.mend
        return finding


@pytest.fixture
def practice(bare_world):
    return Practice(bare_world)


async def test_a_project_that_is_well_has_no_fault_and_nothing_was_changed(practice):
    findings = await practice.findings()

    assert {Verdict.OK} == {one.verdict for one in findings.values()}
    assert next(iter(findings)) == "identity"
    assert ACCOUNT in findings["identity"].detail
    assert practice.world.physics.count(changes=True) == 0


@pytest.mark.parametrize("permission", PERMISSIONS)
async def test_a_permission_that_is_lacking_is_named(practice, permission):
    practice.world.fake.granted = frozenset(PERMISSIONS) - {permission}

    await practice.fault(f"permission {permission}")


async def test_metrics_are_examined_where_they_are_wanted(practice):
    without = await practice.findings()
    practice.world.reconfigure(metrics=True)
    findings = await practice.findings()

    assert {"permission monitoring.timeSeries.list", "metrics"} == findings.keys() - without.keys()
    assert {Verdict.OK} == {one.verdict for one in findings.values()}


async def test_metrics_that_are_not_granted_are_told(practice):
    practice.world.reconfigure(metrics=True)
    practice.world.fake.granted = frozenset(PERMISSIONS)

    assert "--metrics" in (await practice.fault("permission monitoring.timeSeries.list")).mend
    assert "enable the API" in (await practice.fault("metrics")).mend


async def test_a_wrong_clock_is_told(practice):
    practice.clock.jump_utc(-120_000)

    assert "behind" in (await practice.fault("clock")).detail


async def test_an_image_without_the_feature_is_told(practice):
    practice.world.fake.shelf.images["ubuntu-2404-v1"] = {**IMAGES["ubuntu-2404-v1"], "features": ["GVNIC"]}

    assert "TDX_CAPABLE" in (await practice.fault("image ubuntu-24.04")).mend


async def test_an_image_for_another_architecture_is_told(practice):
    practice.world.fake.shelf.images["ubuntu-2404-v1"] = {**IMAGES["ubuntu-2404-v1"], "architecture": "ARM64"}

    assert "it is for arm64" in (await practice.fault("image ubuntu-24.04")).mend


async def test_an_image_that_is_not_there_is_told(practice):
    practice.world.fake.shelf.images.clear()

    assert "is not there" in (await practice.fault("image ubuntu-24.04")).detail


async def test_a_subnetwork_that_is_not_there_is_told(practice):
    regions = practice.world.config.regions
    practice.world.reconfigure(regions=(evolve(regions[0], subnetwork="no-such"), *regions[1:]))

    await practice.fault("subnetwork no-such europe-west4")


async def test_a_subnetwork_that_cannot_be_read_is_no_fault_of_the_table(practice):
    practice.world.fake.refuse_next("subnetworks.get", 503, "backendError")
    finding = (await practice.findings())["subnetwork cb-subnet europe-west4"]

    assert Verdict.UNKNOWN is finding.verdict


@pytest.mark.parametrize("rule", [rule["name"] for rule in RULES])
async def test_a_rule_that_is_lacking_is_told(practice, rule):
    practice.world.fake.shelf.rules = [one for one in RULES if one["name"] != rule]

    await practice.fault(f"firewall cb-net {rule}")


async def test_a_rule_that_lets_neighbours_in_is_told(practice):
    allow = {"name": "allow-internal", "direction": "INGRESS", "allowed": [{"IPProtocol": "all"}]}
    practice.world.fake.shelf.rules.append({**allow, "priority": 65534, "sourceRanges": ["10.128.0.0/9"]})

    assert "allow-internal" in (await practice.fault("firewall cb-net internal")).detail


@pytest.mark.parametrize(
    ("changes", "is_fault"),
    [
        ({}, True),
        ({"sourceRanges": ["0.0.0.0/0"]}, True),
        ({"sourceRanges": [], "sourceTags": ["cb-isolated"]}, True),
        ({"targetTags": []}, True),
        ({"targetTags": [], "priority": 65534}, True),
        ({"priority": 900}, False),
        ({"priority": 1000}, False),
        ({"targetTags": ["of-others"]}, False),
        ({"sourceRanges": ["198.51.100.0/24"]}, False),
        ({"sourceRanges": ["::/0"]}, False),
        ({"sourceRanges": [], "sourceTags": ["of-others"]}, False),
        ({"direction": "EGRESS", "sourceRanges": [], "destinationRanges": ["10.0.0.0/8"]}, False),
    ],
)
async def test_a_rule_before_the_wall_is_a_hole_and_one_behind_it_is_none(practice, changes, is_fault):
    hole = {"name": "hole", "direction": "INGRESS", "priority": 899, "allowed": [{"IPProtocol": "tcp"}]}
    hole |= {"sourceRanges": ["10.164.0.0/20"], "targetTags": ["cb-egress"]}
    practice.world.fake.shelf.rules.append(hole | changes)
    finding = (await practice.findings())["firewall cb-net internal"]

    assert finding.verdict is (Verdict.FAULT if is_fault else Verdict.OK)
    assert ("hole" in finding.detail) is is_fault


async def test_a_quota_that_is_used_up_is_told(practice):
    practice.world.physics.use_up_quota()

    await practice.fault("quota europe-west4")


@pytest.mark.parametrize(
    ("metric", "changes", "is_fault"),
    [
        ("C3_CPUS", {}, True),
        ("C4_CPUS", {}, False),
        ("IN_USE_ADDRESSES", {}, True),
        ("IN_USE_ADDRESSES", {"public_address": False}, False),
        ("NVIDIA_A100_GPUS", {"shapes": ("a2-highgpu-*",)}, True),
        ("NVIDIA_A100_GPUS", {"shapes": ("a2-highgpu-*",), "spot": True, "on_demand": False}, False),
        ("PREEMPTIBLE_NVIDIA_A100_GPUS", {"shapes": ("a2-highgpu-*",), "spot": True}, True),
    ],
)
async def test_each_quota_that_machines_of_the_table_count_against_is_examined(practice, metric, changes, is_fault):
    practice.world.reconfigure(**changes)
    practice.world.fake.shelf.extra_quotas.append({"metric": metric, "limit": 8.0, "usage": 8.0})
    finding = (await practice.findings())["quota europe-west4"]

    assert finding.verdict is (Verdict.FAULT if is_fault else Verdict.OK)
    assert (metric in finding.mend) is is_fault


async def test_no_price_at_all_is_told(practice):
    practice.world.fake.shelf.skus.clear()

    await practice.fault("prices")


async def test_a_cloud_that_is_silent_is_a_finding_and_no_error(practice):
    practice.world.physics.go_down()
    findings = await practice.findings()

    identity = findings.pop("identity")

    assert Verdict.OK is identity.verdict
    assert "whether Google takes them, the other lines tell" in identity.detail
    assert {Verdict.UNKNOWN} == {one.verdict for one in findings.values()}
    assert not [one for one in findings.values() if "nothing to do" in one.detail]


# --- the pin ------------------------------------------------------------------------------------


async def test_the_key_of_another_account_stops_the_boot(practice):
    practice.world.key = key_file("another@project.iam.gserviceaccount.com")
    with pytest.raises(BootError, match="the key is of another@project"):
        await practice.backend()


@pytest.mark.parametrize("key", [b"", b"{}", b"secret words", b'{"type": "authorized_user"}'])
async def test_what_is_no_key_stops_the_boot_and_is_not_quoted(practice, key):
    practice.world.key = key
    with pytest.raises(BootError) as caught:
        await practice.backend()

    assert "secret words" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_under_another_identity_nothing_is_asked(practice):
    # As where a machine's default credentials turn out to be somebody else's.
    sdk = Sdk(practice.world.config, key_file("another@project.iam.gserviceaccount.com"))
    context = BackendContext(BackendName("gcp-1"), practice.clock, lambda reference: b"")
    backend = GcpBackend(context, practice.world.config, sdk)
    with pytest.raises(CredentialsError, match="gcp-1"):
        await backend.list_owned()
    [finding] = await backend.examine()

    assert Verdict.FAULT is finding.verdict
    assert practice.world.physics.calls == ()

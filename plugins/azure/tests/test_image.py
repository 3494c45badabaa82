"""What an image lacks is told before anything is made of it, by the one check that the doctor makes too."""

from collections import Counter

import anyio
import pytest
from attrs import evolve

from compute_bridge.ports.doctor import Verdict
from compute_bridge.ports.errors import UnavailableError, UnservableError
from compute_bridge_azure.config import AzureImage
from compute_bridge_azure.image import FRESH_MS, SORTS, lacks_of
from compute_bridge_azure.sizes import read_size
from compute_bridge_azure.testing.answers import No
from compute_bridge_azure.testing.images import FakeImage
from compute_bridge_azure.testing.market import FakeSize
from compute_bridge_azure.testing.world import ARM64_URN, CONFIDENTIAL_URN, SUBSCRIPTION, URN

PLAIN, CONFIDENTIAL, ARM64 = SORTS
COMPUTE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/pictures/providers/Microsoft.Compute"
DEFINITION = f"{COMPUTE}/galleries/ours/images/ubuntu"
OWN = f"{COMPUTE}/images/ubuntu"
NVME_ALONE = FakeSize("Standard_D2s_v6", "standardDSv6Family", 2, "8", 0.11, controllers="NVMe")

LACKS = [
    (URN, FakeImage(arm=True), "is for Arm64"),
    (URN, FakeImage(generation="V1"), "is of generation V1"),
    (URN, FakeImage(os="Windows"), "holds windows"),
    (URN, FakeImage(plan="paid"), "purchase plan"),
    (URN, FakeImage(state="Deprecated"), "is deprecated"),
    (URN, FakeImage(security="ConfidentialVM"), "for confidential machines alone"),
    (URN, None, "is not there"),
    (CONFIDENTIAL_URN, FakeImage(confidential=True, security="TrustedLaunchSupported"), "does not say"),
    (CONFIDENTIAL_URN, FakeImage(confidential=True, generation="V1"), "is of generation V1"),
    (CONFIDENTIAL_URN, None, "is not there"),
    (ARM64_URN, FakeImage(), "is for x64"),
    (ARM64_URN, FakeImage(arm=True, generation="V1"), "is of generation V1"),
    (ARM64_URN, None, "is not there"),
]
SHAPES = {URN: "Standard_D2s_v5", CONFIDENTIAL_URN: "Standard_DC4es_v5", ARM64_URN: "Standard_D2ps_v5"}


def has(world, urn, image):
    """Let the account have an image, or none, under an urn."""
    images = {name: one for name, one in world.arm.rules.images.items() if name != urn}
    world.arm.rules = evolve(world.arm.rules, images=images if image is None else images | {urn: image})


def boots(world, urn, *shapes):
    """Let the table sell machines that boot from an image."""
    world.sell(*shapes or (SHAPES[urn],), confidential=urn == CONFIDENTIAL_URN)
    key = {CONFIDENTIAL_URN: "confidential_urn", ARM64_URN: "arm64_urn"}.get(urn, "urn")
    world.reconfigure(image_table=(AzureImage(name="ubuntu", **{key: urn}),))


async def refused(world):
    """Return why the first offer's machine is not made."""
    async with world.open() as backend:
        order = world.order((await backend.offers())[0])
        with pytest.raises(UnservableError) as caught:
            await backend.provision(order)
    assert world.physics.count("PutMachine") == 0
    return str(caught.value)


# --- before a create ----------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(("urn", "image", "lack"), LACKS)
async def test_an_image_that_lacks_something_is_refused_before_the_create(bare, urn, image, lack):
    boots(bare, urn)
    has(bare, urn, image)
    message = await refused(bare)

    assert message.startswith(f"backend {bare.name}: image ubuntu in northeurope: {urn} ")
    assert lack in message
    assert "; " in message


@pytest.mark.anyio
async def test_a_size_without_the_disks_that_an_image_knows_is_refused(bare):
    bare.arm.rules = evolve(bare.arm.rules, sizes=(NVME_ALONE,))
    boots(bare, URN, NVME_ALONE.name)
    has(bare, URN, FakeImage(controllers="SCSI"))

    assert "knows disks by SCSI, and Standard_D2s_v6 has them by NVME" in await refused(bare)


@pytest.mark.anyio
@pytest.mark.parametrize("places", [(), ("North Europe", "westeurope")])
async def test_an_image_of_a_gallery_is_told_by_its_definition_and_its_version(bare, places):
    version = f"{DEFINITION}/versions/1.2.3"
    boots(bare, version, "Standard_D2s_v5")
    has(bare, version, FakeImage(places=places))
    async with bare.open() as backend:
        await backend.cloud.create(bare.order((await backend.offers())[0]))

    assert Counter(call.op for call in bare.physics.calls)["PutMachine"] == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("urn", "image", "lack"),
    [
        (f"{DEFINITION}/versions/1.2.3", FakeImage(places=("eastus",)), "is not in northeurope"),
        (f"{DEFINITION}/versions/1.2.3", FakeImage(generation="V1"), "is of generation V1"),
        (f"{DEFINITION}/versions/1.2.3", FakeImage(arm=True), "is for Arm64"),
        (DEFINITION, FakeImage(os="Windows"), "holds windows"),
        (OWN, FakeImage(places=("eastus",)), "is not in northeurope"),
        (OWN, FakeImage(os="Windows", places=("northeurope",)), "holds windows"),
    ],
)
async def test_an_image_by_its_id_is_examined_too(bare, urn, image, lack):
    boots(bare, urn, "Standard_D2s_v5")
    has(bare, urn, image)

    assert lack in await refused(bare)


@pytest.mark.anyio
@pytest.mark.parametrize("urn", [f"{DEFINITION}/versions/1.2.3", DEFINITION, OWN])
async def test_an_id_of_nothing_is_no_image(bare, urn):
    boots(bare, urn, "Standard_D2s_v5")

    assert f"{urn} is not there" in await refused(bare)


@pytest.mark.anyio
@pytest.mark.needs("sshd")
async def test_a_machine_that_was_made_while_the_image_served_is_met(world):
    async with world.open() as backend:
        order = world.order((await backend.offers())[0])
        await backend.cloud.create(order)
    has(world, URN, None)
    async with world.open() as backend:
        instance = await backend.provision(order)
        await backend.terminate(instance.id)

    assert len(world.physics.made()) == 1


@pytest.mark.parametrize("told", [{}, {"properties": {}}, {"properties": {"features": None, "architecture": None}}])
def test_what_azure_does_not_tell_is_held_against_an_image_only_where_it_has_to_be_confidential(told):
    size = read_size(NVME_ALONE.sku("westeurope"), "westeurope")

    assert [*lacks_of(told, PLAIN, "westeurope", size), *lacks_of(told, ARM64, "westeurope")] == []
    assert [lack.mend for lack in lacks_of(told, CONFIDENTIAL, "westeurope")] == ["name a sku such as cvm"]


# --- how often it is asked ----------------------------------------------------------------------


def reads(world):
    return world.physics.count("GetImage")


@pytest.mark.anyio
async def test_an_image_is_read_once_for_each_location_however_many_ask(bare):
    async with bare.open() as backend:
        facts = backend.cloud.image_facts
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                for location in ("westeurope", "northeurope"):
                    tasks.start_soon(facts.told, location, URN)

        assert reads(bare) == 2


@pytest.mark.anyio
async def test_an_answer_is_believed_for_a_while_and_not_for_ever(bare):
    async with bare.open() as backend:
        facts = backend.cloud.image_facts
        await facts.told("westeurope", URN)
        await bare.clock.sleep_ms(FRESH_MS // 2)
        await facts.told("westeurope", URN)
        assert reads(bare) == 1
        await bare.clock.sleep_ms(FRESH_MS)
        has(bare, URN, None)

        assert await facts.told("westeurope", URN) is None


@pytest.mark.anyio
async def test_silence_is_not_remembered(bare):
    async with bare.open() as backend:
        order = bare.order((await backend.offers())[0])
        bare.arm.refuse_next("GetImage", No(503, "ServerBusy"))
        with pytest.raises(UnavailableError):
            await backend.cloud.create(order)
        await backend.cloud.create(order)

    assert bare.physics.count("PutMachine") == 1


# --- what the doctor says of it -----------------------------------------------------------------


async def faults(world):
    async with world.open_backend() as backend:
        findings = await backend.examine()
    assert not any(call.changes for call in world.physics.calls)
    return {one.check: one for one in findings if one.verdict is not Verdict.OK}


WORDS = {URN: "", CONFIDENTIAL_URN: " confidential", ARM64_URN: " arm64"}


@pytest.mark.anyio
@pytest.mark.parametrize(("urn", "image", "lack"), LACKS)
async def test_the_doctor_names_what_each_image_of_the_table_lacks(bare, urn, image, lack):
    named = AzureImage(name="ubuntu", urn=URN, confidential_urn=CONFIDENTIAL_URN, arm64_urn=ARM64_URN)
    bare.reconfigure(image_table=(named,))
    has(bare, urn, image)
    found = await faults(bare)

    assert set(found) == {f"image ubuntu{WORDS[urn]} in {name}" for name in ("westeurope", "northeurope")}
    for finding in found.values():
        assert finding.verdict is Verdict.FAULT
        assert urn in finding.detail
        assert lack in finding.detail
        assert finding.mend


@pytest.mark.anyio
async def test_the_doctor_names_the_size_whose_disks_an_image_does_not_know(bare):
    bare.arm.rules = evolve(bare.arm.rules, sizes=(*bare.arm.rules.sizes, NVME_ALONE))
    bare.sell("Standard_D2s_v5", NVME_ALONE.name)
    has(bare, URN, FakeImage(controllers="SCSI"))
    found = await faults(bare)

    assert set(found) == {"image ubuntu in westeurope", "image ubuntu in northeurope"}
    assert "Standard_D2s_v6" in found["image ubuntu in westeurope"].detail


@pytest.mark.anyio
async def test_the_doctor_examines_images_where_sizes_are_not_told(bare):
    bare.reconfigure(locations=bare.config.locations[:1])
    bare.arm.refuse_next("ListSkus", No(503, "ServerBusy"))
    has(bare, URN, None)
    found = await faults(bare)

    assert {name: one.verdict for name, one in found.items()} == {
        "sizes in westeurope": Verdict.UNKNOWN,
        "image ubuntu in westeurope": Verdict.FAULT,
    }


@pytest.mark.anyio
async def test_the_doctor_looks_now_and_not_at_what_was_told_before(bare):
    async with bare.open_backend() as backend:
        await backend.cloud.image_facts.told("westeurope", URN)
        has(bare, URN, None)
        findings = await backend.examine()

    assert any(one.verdict is Verdict.FAULT and one.check == "image ubuntu in westeurope" for one in findings)

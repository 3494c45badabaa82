"""An image that would not boot is refused before anything is made, and looked at once however many leases there are."""

import anyio
import pytest

from compute_bridge.cloud.calls import Calls
from compute_bridge.model.ids import BackendName
from compute_bridge.model.resources import Posture
from compute_bridge.ports.backend import BackendContext
from compute_bridge.ports.errors import CredentialsError, UnavailableError, UnservableError
from compute_bridge.testing.clock import VirtualClock
from compute_bridge.testing.promises.situation import end, make
from compute_bridge_gcp.config import GcpImage
from compute_bridge_gcp.facts import ImageSeen, image_in
from compute_bridge_gcp.image import KEPT_MS, Images, faults_of, postures_of
from compute_bridge_gcp.policy import CALLS, PERMISSIONS
from compute_bridge_gcp.sdk import message_of
from compute_bridge_gcp.testing.stock import IMAGE_PROJECT, IMAGES
from compute_bridge_gcp.testing.world import config_for

pytestmark = pytest.mark.anyio

CONFIG = config_for("http://127.0.0.1:1")
IMAGE = CONFIG.images[0]
WHOLE = ImageSeen(frozenset({"GVNIC", "UEFI_COMPATIBLE", "TDX_CAPABLE", "SEV_SNP_CAPABLE"}), "x86_64")
BOTH = (Posture.TDX, Posture.SEV_SNP)


@pytest.mark.parametrize(
    ("lacking", "postures", "told"),
    [
        ("GVNIC", [Posture.NONE], "lacks GVNIC: take another image"),
        ("UEFI_COMPATIBLE", [Posture.NONE], "lacks UEFI_COMPATIBLE: take another image"),
        ("TDX_CAPABLE", [Posture.TDX], "lacks TDX_CAPABLE: take another image, or do not call it confidential"),
        ("SEV_SNP_CAPABLE", BOTH, "lacks SEV_SNP_CAPABLE: take another image, or do not call it confidential"),
    ],
)
def test_what_an_image_lacks_is_told_with_the_mend(lacking, postures, told):
    assert [told] == [*faults_of(ImageSeen(WHOLE.features - {lacking}, "x86_64"), CONFIG, postures)]


def test_an_image_that_has_everything_or_lacks_what_nobody_needs_has_no_fault():
    plain = ImageSeen(frozenset({"GVNIC", "UEFI_COMPATIBLE"}), "x86_64")

    assert [] == [*faults_of(WHOLE, CONFIG, BOTH), *faults_of(plain, CONFIG, [Posture.NONE])]


def test_an_image_for_another_architecture_is_none_for_the_table():
    [told] = faults_of(ImageSeen(WHOLE.features, "arm64"), CONFIG, BOTH)

    assert told == "is for arm64, and the table sells x86_64: take one that is for that"


def test_only_an_image_that_is_marked_is_for_confidential_machines():
    assert BOTH == tuple(postures_of(IMAGE, CONFIG))
    assert () == tuple(postures_of(CONFIG.images[1], CONFIG))


@pytest.mark.parametrize(
    ("told", "means"),
    [("ARM64", "arm64"), ("X86_64", "x86_64"), ("ARCHITECTURE_UNSPECIFIED", "x86_64"), ("", "x86_64")],
)
def test_an_image_that_tells_no_architecture_is_for_x86_64(told, means):
    assert means == image_in(message_of("Image", {"architecture": told} if told else {})).architecture


# --- before the create --------------------------------------------------------------------------


async def refusal(world, *, shape="e2-standard-2"):
    """Have one order refused, and return what was said; nothing was made for it."""
    async with world.open() as backend:
        offer = next(one for one in await backend.offers() if one.shape == shape and one.zone == "europe-west4-a")
        with pytest.raises(UnservableError) as caught:
            await backend.provision(world.order(offer))
    assert world.physics.count("insert") == 0
    assert world.physics.made() == ()
    return str(caught.value)


async def test_an_image_without_a_feature_is_refused_before_the_create(bare_world):
    old = GcpImage(name="ubuntu-24.04", project=IMAGE_PROJECT, image="ubuntu-1604-v1")
    bare_world.reconfigure(images=(old,), tdx_zones=(), sev_snp_zones=())

    assert await refusal(bare_world) == (
        "backend gcp-test: image ubuntu-24.04 (projects/ubuntu-os-cloud/global/images/ubuntu-1604-v1) "
        "lacks GVNIC, UEFI_COMPATIBLE: take another image"
    )


async def test_an_image_for_another_architecture_is_refused_before_the_create(bare_world):
    arm = GcpImage(name="ubuntu-24.04", project=IMAGE_PROJECT, family="ubuntu-2404-lts-arm64")
    bare_world.reconfigure(images=(arm,), tdx_zones=(), sev_snp_zones=())

    assert "is for arm64, and the table sells x86_64" in await refusal(bare_world)


async def test_an_image_that_cannot_be_a_trust_domain_is_refused_before_the_create(bare_world):
    bare_world.fake.shelf.images["ubuntu-2404-v1"] = {
        **IMAGES["ubuntu-2404-v1"],
        "features": ["GVNIC", "UEFI_COMPATIBLE"],
    }

    assert "lacks TDX_CAPABLE" in await refusal(bare_world, shape="c3-standard-4")


async def test_an_image_that_is_not_there_is_refused_before_the_create(bare_world):
    bare_world.fake.shelf.images.clear()
    said = await refusal(bare_world)

    assert "backend gcp-test: cannot look at image ubuntu-24.04: notFound" in said


@pytest.mark.parametrize("permission", ["compute.images.getFromFamily"])
async def test_an_image_that_is_not_ours_to_read_is_a_matter_of_the_role(bare_world, permission):
    async with bare_world.open() as backend:
        [offer, *_] = await backend.offers()
        bare_world.fake.granted = frozenset(PERMISSIONS) - {permission}
        with pytest.raises(CredentialsError, match="look at image"):
            await backend.provision(bare_world.order(offer))

    assert permission in CALLS["image"]
    assert bare_world.physics.count("insert") == 0


@pytest.mark.needs("sshd")
async def test_a_machine_is_met_whatever_has_become_of_its_image(world):
    async with world.open() as backend:
        [offer, *_] = await backend.offers()
        order = world.order(offer)
        instance = await make(world, backend, order)
    world.fake.shelf.images.clear()
    async with world.open() as other:
        again = await other.provision(order)
        await end(world, other, instance.id)

    assert again.id == instance.id
    assert world.physics.count("insert") == 1


@pytest.mark.needs("sshd")
async def test_an_image_is_looked_at_once_for_many_leases(world):
    async with world.open() as backend:
        offer = next(one for one in await backend.offers() if one.shape == "e2-standard-2")
        orders = [world.order(offer) for _ in range(4)]
        async with anyio.create_task_group() as tasks:
            for order in orders[:3]:
                tasks.start_soon(make, world, backend, order)
        await make(world, backend, orders[3])
        for one in await backend.list_owned():
            await end(world, backend, one.id)

    assert world.physics.count("images.getFromFamily") == 1
    assert world.physics.count("insert") == 4


# --- how long a look counts ---------------------------------------------------------------------


class Answers:
    """An SDK that answers about images alone: each answer in turn, the last one for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    def image(self, _project, **_which):
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Practice:
    def __init__(self, *answers):
        self.clock = VirtualClock()
        self.sdk = Answers(*answers)
        context = BackendContext(BackendName("gcp-1"), self.clock, lambda _reference: b"")
        self.images = Images(context, CONFIG, Calls(lambda _doing, _error: None, at_once=4), self.sdk)  # type: ignore[arg-type]

    async def require(self):
        await self.images.require(IMAGE, Posture.TDX)


async def test_a_family_that_has_moved_on_is_looked_at_again():
    moved = Practice(WHOLE, ImageSeen(WHOLE.features - {"TDX_CAPABLE"}, "x86_64"))
    await moved.require()
    await moved.clock.advance(KEPT_MS - 1)
    await moved.require()
    asked = moved.sdk.asked
    await moved.clock.advance(1)
    with pytest.raises(UnservableError, match=r"gcp-1: image ubuntu-24.04 .* lacks TDX_CAPABLE"):
        await moved.require()

    assert (asked, moved.sdk.asked) == (1, 2)


async def test_a_look_that_failed_is_tried_again_by_whoever_asks_next():
    shaken = Practice(UnavailableError("silent"), WHOLE)
    with pytest.raises(UnavailableError):
        await shaken.require()
    asked = shaken.sdk.asked
    await shaken.require()

    assert (asked, shaken.sdk.asked) == (1, 2)

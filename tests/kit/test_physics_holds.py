"""What a test may hold of a cloud: a call that is under way, and the login of a machine that runs."""

import anyio
import pytest

from compute_bridge.cloud.cloud_init import cloud_config
from compute_bridge.cloud.settings import CloudSettings, HostKey
from compute_bridge.cloud.ssh import shown_host_key
from compute_bridge.model.ids import BackendName, OfferId
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import NetworkPolicy, Posture, Region, Resources, Zone
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import Offer
from compute_bridge.testing.hurried_clock import HurriedClock
from compute_bridge.testing.orders import make_order, needs_of, new_token
from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.guests import Guests
from compute_bridge.testing.physics.matter import Code, Refusal, State

pytestmark = pytest.mark.anyio

ZONES = {"a": ("a-1",)}
PORT = 2222


@pytest.fixture
def physics():
    return Physics(HurriedClock(), zones=ZONES)


@pytest.fixture
def guested():
    physics = Physics(HurriedClock(), zones=ZONES, boot_ms=0, guests=Guests())
    yield physics
    physics.close()


async def ask(physics):
    await anyio.to_thread.run_sync(lambda: physics.admit("create", changes=True))


async def refuse_and_release(physics, held):
    await held.reached.wait()
    physics.refuse_credentials()
    held.release()


async def test_a_call_that_is_held_waits_for_its_release(physics):
    held = physics.hold_next_call("create")
    with anyio.move_on_after(0.05) as scope:
        await anyio.to_thread.run_sync(lambda: physics.admit("create", changes=True), abandon_on_cancel=True)
    reached = held.reached.is_set()
    held.release()

    assert (reached, scope.cancelled_caught) == (True, True)


async def test_the_next_call_is_held_and_no_other(physics):
    physics.hold_next_call("create").release()
    with anyio.fail_after(60):
        await ask(physics)
        await ask(physics)

    assert physics.count("create") == 2


async def test_a_call_meets_the_weather_of_its_release(physics):
    held = physics.hold_next_call("create")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refuse_and_release, physics, held)
        with pytest.raises(Refusal) as caught:
            await ask(physics)

    assert caught.value.code is Code.CREDENTIALS


@pytest.mark.needs("sshd")
async def test_a_machine_whose_login_is_held_runs_and_shows_no_host_key(guested):
    offer = Offer(
        id=OfferId("a/small"),
        backend=BackendName("toy"),
        region=Region("a"),
        zone=Zone("a-1"),
        shape="small",
        resources=Resources(1000, 1024),
        posture=Posture.NONE,
        networks=(NetworkPolicy.EGRESS,),
        cost=CostBasis("EUR", UnitNanos(), UtcMs(0), "toy"),
    )
    now = UtcMs(guested.now_ms())
    order = make_order(offer, new_token(), needs=needs_of(offer), image=ImageRef("vm:x"), user="guest", now=now)
    settings = CloudSettings(owner="kit", shapes=("small",), ssh_port=PORT, host_key=HostKey.INJECTED)
    document = cloud_config(order, settings, grace_ms=0).encode()
    held = guested.hold_next_login()
    made = guested.launch(region="a", zone="a-1", shape="small", user_data=document).machine
    state = guested.get(made.id).state
    early = await shown_host_key(made.address, PORT, within_s=5)
    held.release()
    late = await shown_host_key(made.address, PORT, within_s=5)

    assert state is State.RUNNING
    assert (early, late) == (None, order.access.host_key)

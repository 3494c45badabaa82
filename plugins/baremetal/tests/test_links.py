"""What happens when a rack host is not who it was, or does not answer."""

import subprocess
from collections.abc import AsyncIterator

import anyio
import pytest
from anyio import to_thread
from attrs import evolve

from compute_bridge.model.ids import OfferId, Token
from compute_bridge.ports.backend import Backend, BackendContext, Order
from compute_bridge.ports.errors import CredentialsError, NoCapacityError, UnavailableError
from compute_bridge_baremetal.hooks import open_rack
from compute_bridge_baremetal.testing.world import RackWorld

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.needs("sshd", "openssh-client"),
]

HOST_KEY_CHANGED = "rack host m0: .* does not show the pinned host key; .* set host_key in the boot file"


@pytest.fixture
async def backend(rack: RackWorld) -> AsyncIterator[Backend]:
    async with rack.open() as backend:
        yield backend


@pytest.fixture
async def order(rack: RackWorld, backend: Backend) -> Order:
    return rack.order((await backend.offers())[0])


async def restart(rack: RackWorld, at: int) -> None:
    await to_thread.run_sync(rack.sshds[at].stop)
    await to_thread.run_sync(rack.sshds[at].start)


# --- host keys --------------------------------------------------------------------------------


async def test_a_changed_host_key_is_refused_by_name(rack: RackWorld, backend: Backend, order: Order):
    instance = await backend.provision(order)
    await to_thread.run_sync(rack.sshds[0].change_host_key)
    await restart(rack, 0)

    with pytest.raises(CredentialsError, match=HOST_KEY_CHANGED):
        await backend.terminate(instance.id)
    assert await rack.running() == {instance.id}


async def test_a_host_key_of_another_type_is_refused_as_changed(rack: RackWorld, backend: Backend, order: Order):
    await to_thread.run_sync(lambda: rack.sshds[0].change_host_key(kind="rsa"))
    await restart(rack, 0)

    with pytest.raises(CredentialsError, match=HOST_KEY_CHANGED):
        await backend.provision(order)


async def test_a_machine_with_a_changed_host_key_is_not_offered(
    rack: RackWorld, backend: Backend, caplog: pytest.LogCaptureFixture
):
    await to_thread.run_sync(rack.sshds[0].change_host_key)
    await restart(rack, 0)
    await to_thread.run_sync(rack.sshds[0].cut)
    offers = await backend.offers()

    assert [offer.id for offer in offers] == ["m1"]
    assert "does not show the pinned host key" in caplog.text


async def test_a_key_that_is_none_is_refused_without_being_quoted(rack: RackWorld):
    context = BackendContext(rack.name, rack.clock, lambda _reference: b"-----BEGIN what is this")

    with pytest.raises(CredentialsError, match="ssh_key refers to no usable private key") as caught:
        async with open_rack(context, rack.config):
            pass
    assert "what is this" not in str(caught.value)


# --- silence ----------------------------------------------------------------------------------


async def test_one_machine_down_keeps_no_other_from_being_offered(rack: RackWorld, backend: Backend):
    await to_thread.run_sync(rack.sshds[0].stop)

    assert [offer.id for offer in await backend.offers()] == ["m1"]


async def test_one_machine_down_leaves_the_truth_unknown(rack: RackWorld, backend: Backend, order: Order):
    await to_thread.run_sync(rack.sshds[1].stop)

    with pytest.raises(UnavailableError, match="rack host m1"):
        await backend.find(order.token)
    with pytest.raises(UnavailableError, match="rack host m1"):
        await backend.list_owned()


async def test_a_lease_that_is_seen_is_found_though_another_machine_is_down(
    rack: RackWorld, backend: Backend, order: Order
):
    instance = await backend.provision(order)
    await to_thread.run_sync(rack.sshds[1].stop)

    assert await backend.find(order.token) == instance


async def test_a_link_cut_under_a_create_leaves_what_find_tells(rack: RackWorld, backend: Backend, order: Order):
    await rack.lose_next_answer()
    with pytest.raises(UnavailableError):
        await backend.provision(order)
    found = await backend.find(order.token)

    assert found is not None
    assert await backend.provision(order) == found
    assert await rack.running() == {found.id}


async def test_a_link_cut_under_a_terminate_leaves_nothing_to_end_again(
    rack: RackWorld, backend: Backend, order: Order
):
    instance = await backend.provision(order)
    await to_thread.run_sync((rack.sshds[0].folder / "lose-terminate").touch)
    with pytest.raises(UnavailableError):
        await backend.terminate(instance.id)
    running = await rack.running()
    await backend.terminate(instance.id)

    assert running == frozenset()


async def test_a_lost_connection_is_made_again(rack: RackWorld, backend: Backend, order: Order):
    instance = await backend.provision(order)
    for sshd in rack.sshds:
        await to_thread.run_sync(sshd.cut)

    assert await backend.list_owned() == (instance,)


async def test_one_connection_serves_many_calls_at_once(rack: RackWorld, backend: Backend):
    async with anyio.create_task_group() as tasks:
        for _ in range(30):
            tasks.start_soon(backend.find, Token(bytes(32)))

    for sshd in rack.sshds:
        assert await to_thread.run_sync(sshd.connections) == 1


async def test_a_machine_that_the_boot_file_no_longer_names_is_beyond_reach(rack: RackWorld, backend: Backend):
    offers = await backend.offers()
    rack.config = evolve(rack.config, machines=rack.config.machines[:1])
    async with rack.open() as smaller:
        reached = [smaller.reaches(offer) for offer in offers]

    assert [True, False] == reached


# --- capacity ---------------------------------------------------------------------------------


async def test_two_bridges_never_sell_the_same_millicore(rack: RackWorld, backend: Backend):
    offer = (await backend.offers())[0]
    outcomes: list[object] = []

    async def provision(one: Backend) -> None:
        order = rack.order(offer)
        most = evolve(order.requirements.resources, cpu_millis=offer.resources.cpu_millis * 2 // 3)
        try:
            outcomes.append(await one.provision(evolve(order, requirements=evolve(order.requirements, resources=most))))
        except NoCapacityError as error:
            outcomes.append(error)

    async with rack.open() as other, anyio.create_task_group() as tasks:
        tasks.start_soon(provision, backend)
        tasks.start_soon(provision, other)

    assert sorted(isinstance(outcome, NoCapacityError) for outcome in outcomes) == [False, True]


async def test_offers_are_less_what_leases_take_also_after_a_restart(rack: RackWorld, backend: Backend, order: Order):
    await backend.provision(order)
    async with rack.open() as restarted:
        after = {offer.id: offer.resources for offer in await restarted.offers()}
    taken = order.requirements.resources

    assert after[OfferId("m0")].cpu_millis == order.offer.resources.cpu_millis - taken.cpu_millis
    assert after[OfferId("m0")].mem_mib == order.offer.resources.mem_mib - taken.mem_mib
    assert after[OfferId("m0")].disk_gib == order.offer.resources.disk_gib - taken.disk_gib


async def test_a_machine_without_its_driver_is_not_offered_and_says_why(
    rack: RackWorld, caplog: pytest.LogCaptureFixture
):
    rack.config = evolve(rack.config, guest_sshd="/no/such/server")
    async with rack.open() as backend:
        offers = await backend.offers()

    assert offers == ()
    assert "guest_sshd names no program here: /no/such/server" in caplog.text


async def test_a_damaged_record_concludes_nothing_and_names_its_folder(rack: RackWorld, backend: Backend, order: Order):
    instance = await backend.provision(order)
    record = rack.state_of(0) / "leases" / instance.token.hex() / "record"
    whole = await to_thread.run_sync(record.read_text)
    await to_thread.run_sync(record.write_text, whole.replace("mac ", "mca "))
    with pytest.raises(UnavailableError, match=r"rack host m0: a lease's record is damaged .'mac'."):
        await backend.list_owned()
    await to_thread.run_sync(record.write_text, whole)

    assert await backend.list_owned() == (instance,)


async def test_a_profile_that_talks_disturbs_nobody(rack: RackWorld, backend: Backend):
    gate = rack.sshds[0].folder / "gate.sh"
    text = await to_thread.run_sync(gate.read_text)
    await to_thread.run_sync(gate.write_text, f"printf 'Welcome\\nto this machine: '\n{text}")

    assert len(await backend.offers()) == 2


async def test_no_process_of_the_rack_is_left(rack: RackWorld, backend: Backend, order: Order):
    instance = await backend.provision(order)
    await backend.terminate(instance.id)
    left = await to_thread.run_sync(
        lambda: subprocess.run(["pgrep", "-f", str(rack.state_of(0))], check=False, capture_output=True).stdout
    )

    assert left == b""

"""The promises about making machines: once, ready, as ordered, and nothing left behind."""

import pytest
from attrs import evolve

from compute_bridge.model.ids import OfferId
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.resources import Zone
from compute_bridge.ports.backend import Backend, HostKeySource, Instance, Offer, Order
from compute_bridge.ports.errors import BackendError, NoCapacityError, UnavailableError, UnservableError
from compute_bridge.testing.held import Held
from compute_bridge.testing.promises.situation import (
    Situation,
    a_moment,
    end,
    make,
    patience,
    power,
    settle,
    tasks_of_a_test,
)
from compute_bridge.testing.world import SupportsHold, SupportsLostAnswer, World
from compute_bridge.wire.keys import require_ssh_public_line

_CLOCK_ERROR_MS = 3_600_000


class ProvisioningPromises(Situation):
    """What ``provision`` promises."""

    async def test_provision_starts_one_machine(self, world: World, backend: Backend, order: Order) -> None:
        """One order makes exactly one machine, the one that is returned.

        Troubleshooting: return the cloud's own id of the machine, the one that ``World.running`` tells.
        """
        instance = await make(world, backend, order)

        assert await world.running() == {instance.id}, "the account does not run exactly the machine that was returned"

    async def test_provision_answers_the_order(self, order: Order, instance: Instance) -> None:
        """The machine carries the order's token, offer, ownership and end.

        Troubleshooting: read them back from the tags that you wrote, all of them, and lose no byte of the mac.
        """
        told = (instance.token, instance.offer, instance.ownership, instance.ends_at)
        ordered = (order.token, order.offer.id, order.ownership, order.ends_at)

        assert told == ordered, f"the machine tells {told}, ordered was {ordered}"

    async def test_provision_tells_the_start(self, world: World, instance: Instance) -> None:
        """``started_at`` is the backend's own record of the start, in milliseconds of UTC.

        Troubleshooting: convert the cloud's launch time; seconds and local times are what goes wrong here.
        """
        now = world.clock.utc_ms()

        assert abs(now - instance.started_at) < _CLOCK_ERROR_MS, f"started at {instance.started_at}, and it is {now}"

    async def test_host_key_is_the_orders(self, order: Order, instance: Instance) -> None:
        """The host key told is the order's, unless the machine made its own and the backend says how it knows it.

        Troubleshooting: install ``access.host_key_private`` in the guest; never accept what it shows first.
        """
        line = require_ssh_public_line(instance.host_key)
        assert instance.host_key == line, "the host key is more than type and key: leave the comment out"
        if instance.host_key_source is not HostKeySource.GUEST_ATTESTED:
            said, ordered = instance.host_key_source, order.access.host_key_by(instance.host_key_source)
            assert instance.host_key == ordered, f"the host key is said to be {said}, and is another"

    async def test_provision_is_idempotent_by_token(
        self, world: World, backend: Backend, order: Order, instance: Instance
    ) -> None:
        """The same order again returns the same machine and makes no other.

        Troubleshooting: give the cloud the token as its idempotency key, or make the machine's name of it.
        """
        again = await make(world, backend, order)

        assert again == instance, f"the same order returned {again} after {instance}"
        assert await world.running() == {instance.id}, "a second call with the same order made another machine"

    async def test_provision_is_idempotent_across_processes(
        self, world: World, order: Order, instance: Instance
    ) -> None:
        """The same order in another process returns the same machine, every field alike.

        Troubleshooting: keep nothing in memory that the account does not know; find the machine by its tags.
        """
        async with world.open() as other:
            again = await make(world, other, order)

        assert again == instance, f"the same order in another process returned {again} after {instance}"
        assert await world.running() == {instance.id}, "another process made another machine for the same order"

    async def test_two_processes_at_once_make_one_machine(self, world: World, order: Order) -> None:
        """The same order from two processes at the same moment makes one machine, and both are told of it.

        Troubleshooting: looking first and creating then is a race; let the cloud refuse the second create.
        """
        made: list[Instance] = []

        async def provision(backend: Backend) -> None:
            made.append(await backend.provision(order))

        async with world.open() as one, world.open() as other, patience(world, "provision twice"):
            async with tasks_of_a_test() as tasks:
                tasks.start_soon(provision, one)
                tasks.start_soon(provision, other)
            await settle(world, one)

        assert made[0] == made[1], "two processes were told of two machines"
        assert await world.running() == {made[0].id}, "two processes made two machines for one order"

    async def test_provision_returns_only_a_ready_machine(self, world: World, backend: Backend, order: Order) -> None:
        """``provision`` returns when the machine takes a login, not when the cloud has promised it.

        Troubleshooting: wait for the state that means ready, and for the SSH port where that says more.
        """
        held = await power(world, SupportsHold).hold_next_create()
        await _wait_for_release(world, held, [backend], order)

    async def test_another_process_waits_for_the_machine_too(
        self, world: World, backend: Backend, order: Order
    ) -> None:
        """A process that meets a machine half made by another waits for it, and returns the same.

        Troubleshooting: whoever finds the machine there already goes on as if it had made it: wait, then return.
        """
        held = await power(world, SupportsHold).hold_next_create()
        async with world.open() as other:
            await _wait_for_release(world, held, [backend, other], order)

    async def test_cancelled_provision_leaves_nothing(self, world: World, backend: Backend, order: Order) -> None:
        """A provision that is cancelled when the machine exists ends the machine, then lets the cancellation go on.

        Troubleshooting: a cancelled task cannot await: clean up under ``CancelScope(shield=True)`` with a deadline,
        by token, since a create that was cut off has told no id; abandon no worker thread.
        """
        held = await power(world, SupportsHold).hold_next_create()
        async with patience(world, "end a cancelled provision"), tasks_of_a_test() as tasks:
            tasks.start_soon(backend.provision, order)
            await held.reached.wait()
            await a_moment(world)
            tasks.cancel_scope.cancel()
            held.release()
        await settle(world, backend)

        assert await world.running() == frozenset(), "a cancelled provision left a machine running"
        assert await backend.find(order.token) is None, "find() tells of a machine whose provision was cancelled"

    async def test_lost_answer_makes_no_second_machine(self, world: World, backend: Backend, order: Order) -> None:
        """Where the answer to a create is lost, the outcome is unknown: ``find`` tells, and a retry finds the same.

        Troubleshooting: raise ``UnavailableError`` for a connection that broke, never a definite failure; then the
        machine may stay, since the same token meets it again.
        """
        await power(world, SupportsLostAnswer).lose_next_answer()
        async with patience(world, "provision"):
            try:
                await backend.provision(order)
            except UnavailableError:
                await settle(world, backend)
                assert {found.id for found in await backend.list_owned()} == await world.running()
        instance = await make(world, backend, order)

        assert await world.running() == {instance.id}, "the retry after a lost answer made another machine"

    async def test_another_order_gets_another_machine(
        self, world: World, backend: Backend, offer: Offer, instance: Instance
    ) -> None:
        """Two tokens are two machines, however alike the orders are.

        Troubleshooting: use the whole token; a prefix of it, or the offer, is no idempotency key.
        """
        other = await make(world, backend, world.order(offer))

        assert other.id != instance.id, "two orders got one machine"
        assert await world.running() == {instance.id, other.id}

    async def test_provision_refuses_what_the_offer_cannot_serve(
        self, world: World, backend: Backend, order: Order
    ) -> None:
        """An order beyond its offer is refused as unservable, and nothing is made.

        Troubleshooting: check ``order.offer.serves(order.requirements)`` before the first call.
        """
        size = evolve(order.requirements.resources, cpu_millis=order.offer.resources.cpu_millis + 1)
        too_much = evolve(order, requirements=evolve(order.requirements, resources=size))

        await _refuse(world, backend, too_much, (UnservableError,))

    async def test_provision_refuses_an_unknown_image(self, world: World, backend: Backend, order: Order) -> None:
        """An image that is not there is refused as unservable, and what was made before that showed is gone.

        Troubleshooting: end the machine that could not boot before you raise.
        """
        name = f"oci@sha256:{'0' * 64}" if order.image.is_oci else "vm:no-such-image-anywhere"
        unknown = evolve(order, image=ImageRef(name))

        await _refuse(world, backend, unknown, (UnservableError,))

    async def test_provision_refuses_a_vanished_offer(self, world: World, backend: Backend, order: Order) -> None:
        """An offer that is no longer sold is refused, never replaced by another.

        Troubleshooting: the requester pays for the offer that was cleared; look its shape up and refuse what is gone.
        """
        gone = evolve(order.offer, id=OfferId("no-such-offer"), shape="no-such-shape", zone=Zone("no-such-zone"))

        await _refuse(world, backend, evolve(order, offer=gone), (UnservableError, NoCapacityError))

    async def test_provision_never_returns_the_dead(
        self, world: World, backend: Backend, order: Order, instance: Instance
    ) -> None:
        """After a terminate the same order is refused, or makes a fresh machine; it never returns the old one.

        Refused is better: a late retry of an order that has ended then makes nothing.

        Troubleshooting: a machine found by its token counts only while it lives; raise ``UnservableError`` where the
        cloud has used the name or the idempotency key up.
        """
        await end(world, backend, instance.id)
        try:
            fresh = {(await make(world, backend, order)).id}
        except UnservableError:
            fresh = set()

        assert await world.running() == fresh, "provision returned a machine that is gone, or left another behind"


async def _wait_for_release(world: World, held: Held, backends: list[Backend], order: Order) -> None:
    made: list[Instance] = []

    async def provision(backend: Backend) -> None:
        made.append(await backend.provision(order))

    async with patience(world, "provision"), tasks_of_a_test() as tasks:
        for backend in backends:
            tasks.start_soon(provision, backend)
            await held.reached.wait()
            await a_moment(world)
        early = list(made)
        held.release()

    assert not early, f"provision returned {early[0].id} before it was ready"
    assert {instance.id for instance in made} == await world.running()


async def _refuse(world: World, backend: Backend, order: Order, kinds: tuple[type[BackendError], ...]) -> None:
    with pytest.raises(kinds):
        async with patience(world, "refuse the order"):
            await backend.provision(order)
    await settle(world, backend)

    assert await world.running() == frozenset(), "a refused order left a machine running"
    assert await backend.find(order.token) is None

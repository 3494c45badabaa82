"""The promises about telling the truth of the account: ``find`` and ``list_owned``."""

from compute_bridge.model.ids import InstanceId
from compute_bridge.ports.backend import Backend, Instance, Offer, Order
from compute_bridge.testing.orders import new_token
from compute_bridge.testing.promises.situation import Situation, a_moment, end, make, power, settle
from compute_bridge.testing.world import SupportsKill, SupportsStranger, World


class FindingPromises(Situation):
    """What ``find`` and ``list_owned`` promise, within the backend's consistency window."""

    async def test_find_returns_the_machine_of_a_token(self, world: World, order: Order, instance: Instance) -> None:
        """``find`` in any process returns the live machine of a token, every field as ``provision`` told it.

        Troubleshooting: build the ``Instance`` in one function, from the account's answer, wherever it is returned.
        """
        async with world.open() as other:
            found = await other.find(order.token)

        assert found == instance, f"provision told {instance}; find in another process tells {found}"

    async def test_find_tells_two_machines_apart(
        self, world: World, backend: Backend, offer: Offer, order: Order, instance: Instance
    ) -> None:
        """``find`` goes by the whole token, beside other machines of ours.

        Troubleshooting: filter by the token's tag, not only by the tag that says a machine is ours.
        """
        other_order = world.order(offer)
        other = await make(world, backend, other_order)

        assert await backend.find(order.token) == instance, "find() takes one machine of ours for another"
        assert await backend.find(other_order.token) == other, "find() takes one machine of ours for another"

    async def test_find_of_an_unknown_token_is_none(self, backend: Backend, instance: Instance) -> None:
        """A token that no machine carries is answered with None, which is a statement, not a failure.

        Troubleshooting: return None only for an answer that says so; silence raises ``UnavailableError``.
        """
        assert await backend.find(new_token()) is None, f"find() tells of {instance.id} under a token that it has not"

    async def test_find_forgets_the_terminated(
        self, world: World, backend: Backend, order: Order, instance: Instance
    ) -> None:
        """After a terminate there is no live machine of the token.

        Troubleshooting: clouds list ended machines for a while; leave those states out.
        """
        await end(world, backend, instance.id)

        assert await backend.find(order.token) is None, "find() tells of a machine that was terminated"

    async def test_find_forgets_the_dead(
        self, world: World, backend: Backend, order: Order, instance: Instance
    ) -> None:
        """A machine that died by itself is not found.

        Troubleshooting: ask the account each time; what ``provision`` once returned proves nothing now.
        """
        await _kill(world, backend, instance.id)

        assert await backend.find(order.token) is None, "find() tells of a machine that died"

    async def test_list_owned_tells_every_live_machine(
        self, world: World, backend: Backend, offer: Offer, instance: Instance
    ) -> None:
        """``list_owned`` in any process tells every live machine with our tags, as ``provision`` told it.

        Troubleshooting: read every page of the cloud's answer, every zone and every region that you sell.
        """
        second = await make(world, backend, world.order(offer))
        async with world.open() as other:
            owned = await other.list_owned()

        told = sorted(machine.id for machine in owned)
        assert told == sorted([instance.id, second.id]), f"{told} is not what runs: {instance.id}, {second.id}"
        assert {instance, second} == set(owned), "list_owned() tells a machine otherwise than provision() did"

    async def test_list_owned_forgets_the_gone(
        self, world: World, backend: Backend, offer: Offer, instance: Instance
    ) -> None:
        """``list_owned`` leaves out what was terminated.

        Troubleshooting: clouds list ended machines for a while; leave those states out.
        """
        second = await make(world, backend, world.order(offer))
        await end(world, backend, instance.id)

        owned = [machine.id for machine in await backend.list_owned()]
        assert owned == [second.id], f"list_owned() tells {owned}, and only {second.id} runs"

    async def test_list_owned_leaves_out_strangers(self, world: World, backend: Backend, instance: Instance) -> None:
        """Machines in the account without our tags are nobody's business: they are not listed.

        Troubleshooting: filter by the tag that carries the token, not by account or by name.
        """
        await power(world, SupportsStranger).start_stranger()

        owned = [machine.id for machine in await backend.list_owned()]
        assert owned == [instance.id], f"list_owned() tells {owned}, and only {instance.id} is ours"

    async def test_ownership_survives_the_process(self, world: World, order: Order, instance: Instance) -> None:
        """Name, grant hash and mac come back from the account byte for byte, in ``find`` and in ``list_owned``.

        Troubleshooting: the sweep after a crash reaps by them; see that no tag is cut short by the cloud.
        """
        async with world.open() as other:
            listed = [machine.ownership for machine in await other.list_owned() if machine.id == instance.id]
            found = await other.find(order.token)

        assert listed == [order.ownership], "list_owned() tells another ownership than was ordered"
        assert found is not None, "find() does not know the machine"
        assert found.ownership == order.ownership, "find() tells another ownership than was ordered"


async def _kill(world: World, backend: Backend, instance: InstanceId) -> None:
    await power(world, SupportsKill).kill(instance)
    await a_moment(world)
    await settle(world, backend)

"""The promises of a backend at which something stands of machines that do not run; skipped where it is not."""

import pytest

from compute_bridge.ports.backend import Backend, Instance, Offer
from compute_bridge.ports.errors import BackendError
from compute_bridge.ports.remains import Remains, SupportsRemains
from compute_bridge.testing.promises.situation import Situation, a_moment, end, make, patience, power, settle
from compute_bridge.testing.world import SupportsPowerOff, SupportsStranger, World


class RemainsPromises(Situation):
    """What ``list_remains`` promises."""

    async def test_what_runs_does_not_remain(self, backend: Backend, instance: Instance) -> None:
        """A machine that ``list_owned`` tells of is not among the remains.

        Troubleshooting: tell a machine in one of the two lists, by the same reading of its state.
        """
        told = await power(backend, SupportsRemains).list_remains()

        assert told == (), f"{instance.id} runs, and {_ids(told)} is told to remain"

    async def test_what_was_powered_off_remains_until_it_is_terminated(
        self, world: World, backend: Backend, offer: Offer, instance: Instance
    ) -> None:
        """What stands of a machine that was powered off from inside is told, and ``terminate`` ends it.

        Troubleshooting: look at what your cloud calls stopped, failed and half deleted: whatever is there and does not
        run remains, also for a process that was not there when it ran.
        """
        other = await make(world, backend, world.order(offer))
        stands = await _powered_off(world, backend, instance)
        async with world.open() as fresh:
            told = await power(fresh, SupportsRemains).list_remains()
            owned = {one.id for one in await fresh.list_owned()}
            await end(world, fresh, instance.id)
            left = await power(world, SupportsPowerOff).standing()
            told_later = await power(fresh, SupportsRemains).list_remains()

        assert _ids(told) == ([instance.id] if stands else []), f"{_ids(told)} is told to remain of {instance.id}"
        assert owned == {other.id}, f"{instance.id} is powered off, and list_owned() tells {sorted(owned)}"
        assert left == {other.id}, f"terminate() returned, and {sorted(left)} stands where only {other.id} should"
        assert told_later == (), f"{_ids(told_later)} is told to remain though it was terminated"

    async def test_remains_prove_whose_they_are(self, world: World, backend: Backend, instance: Instance) -> None:
        """Token and ownership of what remains are those of the machine, byte for byte.

        Troubleshooting: the sweep ends nothing whose mac it cannot check; read the tags as for a live machine.
        """
        stands = await _powered_off(world, backend, instance)
        told = await power(backend, SupportsRemains).list_remains()

        whose = [(one.token, one.ownership) for one in told]
        assert whose == ([(instance.token, instance.ownership)] if stands else []), "the remains prove another origin"

    async def test_what_remains_of_strangers_is_not_told(
        self, world: World, backend: Backend, instance: Instance
    ) -> None:
        """What stands of machines without our tags is nobody's business.

        Troubleshooting: filter by the tag that says a machine is ours, as ``list_owned`` does.
        """
        power(backend, SupportsRemains)
        stranger = await power(world, SupportsStranger).start_stranger()
        await power(world, SupportsPowerOff).power_off(stranger)
        await _powered_off(world, backend, instance)
        told = await power(backend, SupportsRemains).list_remains()

        assert set(_ids(told)) <= {instance.id}, f"{_ids(told)} is told to remain, and {stranger} is not ours"

    async def test_silence_is_not_nothing_that_remains(
        self, world: World, backend: Backend, instance: Instance
    ) -> None:
        """Cannot observe is not gone: while nothing answers, ``list_remains`` raises and names the backend.

        Troubleshooting: an empty answer says that nothing stands; raise ``UnavailableError`` for silence.
        """
        remaining = power(backend, SupportsRemains)
        await _powered_off(world, backend, instance)
        await world.go_down()
        async with patience(world, "say that nothing answers"):
            with pytest.raises(BackendError) as caught:
                await remaining.list_remains()
        await world.come_back()

        assert backend.name in str(caught.value), f"list_remains does not say which backend failed: {caught.value}"
        await end(world, backend, instance.id)


async def _powered_off(world: World, backend: Backend, instance: Instance) -> bool:
    """Power the machine off and return whether anything of it still stands."""
    power(backend, SupportsRemains)
    levers = power(world, SupportsPowerOff)
    await levers.power_off(instance.id)
    await a_moment(world)
    await settle(world, backend)
    return instance.id in await levers.standing()


def _ids(told: tuple[Remains, ...]) -> list[str]:
    return sorted(one.id for one in told)

"""What goes wrong while a machine ends."""

from functools import partial

from attrs import evolve

from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import Backend, ExitCause, Instance, Order, SupportsDeadMansSwitch
from compute_bridge.ports.remains import SupportsRemains
from compute_bridge.testing.matrix.situation import CloudSituation, abandons, offers_of
from compute_bridge.testing.physics.world import CloudWorld
from compute_bridge.testing.promises.situation import end, make, patience, power, tasks_of_a_test, watching

# A vendor's record may be in whole seconds.
_ROUNDING_MS = 1000
_LATER_MS = 60_000


class EndingFaults(CloudSituation):
    """Races of ends, preemption, slow deletes, and deadlines that no bridge sees."""

    async def test_two_terminates_and_a_death_end_one_machine(
        self, world: CloudWorld, backend: Backend, instance: Instance
    ) -> None:
        """Two bridges that end one machine while it dies by itself both return.

        Troubleshooting: whatever is gone, or going, by another's hand is an end that was asked for.
        """
        async with world.open() as other, patience(world, "terminate twice"), tasks_of_a_test() as tasks:
            tasks.start_soon(end, world, backend, instance.id)
            tasks.start_soon(end, world, other, instance.id)
            await world.kill(instance.id)

        assert await world.running() == frozenset(), "a race of ends left the machine running"
        assert await backend.find(instance.token) is None, "find() tells of a machine that was ended three times"

    async def test_a_preempted_machine_is_told_as_preempted(self, world: CloudWorld) -> None:
        """A spot machine that the cloud takes back is preempted, not lost and not terminated.

        Troubleshooting: look for the cloud's own word: a state's reason, an operation, or what the machine was.
        """
        world.reconfigure(spot=True)
        async with world.open() as backend:
            offer = next(one for one in await offers_of(world, backend) if one.spot)
            instance = await make(world, backend, world.order(offer))
            async with watching(world, backend, instance.id) as [watch]:
                world.physics.preempt(world.machine_of(instance.id).id)
                seen = await watch.exit()
            await end(world, backend, instance.id)

        assert seen.cause is ExitCause.PREEMPTED, f"a machine that was preempted is said to have {seen.cause}"

    async def test_a_slow_delete_that_is_cancelled_is_waited_for(
        self, world: CloudWorld, backend: Backend, instance: Instance
    ) -> None:
        """A delete of two minutes that is cancelled is not abandoned; the next terminate finds it done or does it.

        Troubleshooting: make changing calls in a worker thread that cancellation waits for.
        """
        call = partial(backend.terminate, instance.id)
        was_abandoned = await abandons(world, backend, world.delete_call, call, "end a cancelled terminate")
        await end(world, backend, instance.id)

        assert not was_abandoned, "the delete was abandoned while it was under way"
        assert await world.running() == frozenset(), "a delete that was cancelled left the machine running"

    async def test_a_deadline_that_is_reached_while_the_bridge_is_down_is_told_as_one(
        self, world: CloudWorld, backend: Backend, order: Order
    ) -> None:
        """With no bridge there the machine ends at its deadline; the next bridge is told so, and takes the rest away.

        Troubleshooting: give the cloud, or the guest, the end with the create; what only stopped still bills.
        """
        near = evolve(order, ends_at=UtcMs(world.clock.utc_ms() + world.near_end_ms))
        async with world.open() as gone:
            instance = await make(world, gone, near)
        await world.let_pass(world.near_end_ms + power(backend, SupportsDeadMansSwitch).dead_mans_grace_ms)
        async with world.open() as later:
            running, owned = await world.running(), await later.list_owned()
            standing, remains = await world.standing(), await power(later, SupportsRemains).list_remains()
            async with watching(world, later, instance.id) as [watch]:
                seen = await watch.exit()
            await end(world, later, instance.id)

        assert running == frozenset(), "the machine outlived its deadline with no bridge to end it"
        assert owned == (), f"a bridge that comes back is told of {owned}"
        told = {one.id for one in remains}
        assert told == standing, f"{sorted(told)} is told to remain, and {sorted(standing)} stands"
        assert seen.cause is ExitCause.DEADLINE, f"a deadline with no bridge is told as {seen.cause}"

    async def test_an_end_is_told_by_its_record_and_alike_for_ever(
        self, world: CloudWorld, backend: Backend, instance: Instance
    ) -> None:
        """When it ended is the cloud's own record, in whole milliseconds, or 0; asked again, the answer is the same.

        Troubleshooting: the moment at which you look is not the moment at which it ended.
        """
        await end(world, backend, instance.id)
        told = []
        for _ in range(2):
            await world.let_pass(_LATER_MS)
            async with watching(world, backend, instance.id) as [watch]:
                told.append(await watch.exit())
        truth = world.machine_of(instance.id).ended_ms
        [first, second] = [exit_.ended_at for exit_ in told]

        assert type(first) is int, f"ended_at is {first!r}, which is no whole number"
        assert first == second, f"one end is told as at {first} and later as at {second}"
        assert first == 0 or abs(first - truth) <= _ROUNDING_MS, f"it ended at {truth} and is told to at {first}"

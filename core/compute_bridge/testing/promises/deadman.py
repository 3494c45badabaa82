"""The promises of a backend whose instances end without any bridge; skipped where they do not."""

from contextlib import suppress

from attrs import evolve, frozen

from compute_bridge.model.units import HOUR_MS, UtcMs
from compute_bridge.ports.backend import (
    Backend,
    DeadMansSwitch,
    ExitCause,
    Instance,
    Offer,
    Order,
    SupportsDeadMansSwitch,
    SupportsExtend,
)
from compute_bridge.ports.errors import UnservableError
from compute_bridge.testing.promises.situation import Situation, a_moment, end, make, patience, power, settle, watching
from compute_bridge.testing.world import SupportsClockJump, SupportsLeftovers, World

_LOOKS = 50
# A vendor's record may be in whole seconds.
_ROUNDING_MS = 1000


class DeadMansSwitchPromises(Situation):
    """What a dead man's switch promises."""

    async def test_the_switch_is_declared(self, world: World, backend: Backend) -> None:
        """What ends an instance, how late, and whether it ends the bill, is declared, and known while nothing answers.

        Troubleshooting: declare the strongest mechanism that *every* instance has, a grace of 0 ms or more, and whether
        what it has stopped is billed; they are properties.
        """
        switch = power(backend, SupportsDeadMansSwitch)
        await world.go_down()

        assert isinstance(switch.dead_mans_switch, DeadMansSwitch), (
            f"dead_mans_switch is {switch.dead_mans_switch!r}, which is no DeadMansSwitch"
        )
        assert type(switch.dead_mans_grace_ms) is int, "dead_mans_grace_ms is not a whole number"
        assert switch.dead_mans_grace_ms >= 0, f"dead_mans_grace_ms is {switch.dead_mans_grace_ms}"
        assert isinstance(switch.dead_mans_leaves_bill, bool), "dead_mans_leaves_bill is neither True nor False"

    async def test_the_end_comes_without_a_bridge(self, world: World) -> None:
        """With no backend open at all, the machine ends within the declared grace after its end.

        Troubleshooting: give the end to the vendor's scheduler, or to a timer in the guest, as you create the machine;
        a task of the bridge ends nothing once the bridge is gone.
        """
        left = await _make_and_leave(world)

        assert await left.gone_ms() is not None, "the machine runs on after its end and the declared grace"

    async def test_nothing_ends_before_its_end(self, world: World) -> None:
        """The machine runs until its end, and not a moment less.

        Troubleshooting: count what is left from the moment of the create, not from that of the order.
        """
        left = await _make_and_leave(world)
        gone_ms = await left.gone_ms()

        assert gone_ms is None or gone_ms >= left.ends_ms, f"the machine ended {left.ends_ms - (gone_ms or 0)} ms early"

    async def test_the_end_is_told_as_a_deadline(self, world: World) -> None:
        """A process that begins after the end finds no machine, and is told that and when the deadline ended it.

        Troubleshooting: keep the vendor's record of the end until it was read; ``LOST`` is for what left none.
        """
        left = await _make_and_leave(world)
        await left.gone_ms()
        async with world.open() as other:
            await settle(world, other)
            async with patience(world, "find the machine"):
                found = await other.find(left.instance.token)
            async with watching(world, other, left.instance.id) as [watch]:
                exit_ = await watch.exit()

        assert found is None, f"find() tells of a machine that has ended: {found}"
        assert exit_.cause is ExitCause.DEADLINE, f"the machine met its deadline, and its exit is told as {exit_}"
        assert exit_.ended_at == 0 or exit_.ended_at >= left.instance.ends_at - _ROUNDING_MS, (
            f"the machine was to end at {left.instance.ends_at} and is told to have ended at {exit_.ended_at}"
        )

    async def test_extend_moves_the_switch(self, world: World) -> None:
        """After ``extend`` the old end ends nothing, and the new one does.

        Troubleshooting: move the timer as well as the tag; an extension that arms a second timer leaves the first.
        """
        async with world.open() as backend:
            power(backend, SupportsDeadMansSwitch)
            extensible = power(backend, SupportsExtend)
            left = await _make_near(world, backend)
            later = UtcMs(left.instance.ends_at + world.near_end_ms)
            async with patience(world, "extend"):
                await extensible.extend(left.instance.id, later)
        moved = evolve(left, ends_ms=left.ends_ms + world.near_end_ms)
        gone_ms = await moved.gone_ms()

        assert gone_ms is not None, "the machine runs on after the end that it was extended to"
        assert gone_ms >= moved.ends_ms, f"the machine ended {moved.ends_ms - gone_ms} ms before its new end"

    async def test_terminate_takes_the_switch_away(self, world: World, backend: Backend, offer: Offer) -> None:
        """When a machine is terminated nothing stays behind that would have ended it.

        Troubleshooting: delete the schedule or stop the process that would have ended the machine; some vendors bill
        for it, and all have a quota.
        """
        power(backend, SupportsDeadMansSwitch)
        before = await power(world, SupportsLeftovers).leftovers()
        instance = await make(world, backend, world.order(offer))
        await end(world, backend, instance.id)

        assert await _cleared(world, before), "terminate left the machine's timer or process behind"

    async def test_the_switch_takes_itself_away(self, world: World) -> None:
        """When the end has come by itself nothing stays behind either.

        Troubleshooting: let the schedule delete itself, or the process that ends the machine end too.
        """
        before = await power(world, SupportsLeftovers).leftovers()
        left = await _make_and_leave(world)
        await left.gone_ms()

        assert await _cleared(world, before), "the end left the machine's timer or process behind"

    async def test_a_wrong_clock_keeps_nothing_alive(self, world: World) -> None:
        """A wall clock of the bridge that falls back by hours after the create puts the end off by nothing.

        Troubleshooting: tell the vendor how long is left, and let it count by a clock of its own.
        """
        clock = power(world, SupportsClockJump)
        left = await _make_and_leave(world)
        await clock.jump_clock(-3 * HOUR_MS)

        assert await left.gone_ms() is not None, "the machine runs on after its end, for the bridge's clock fell back"

    async def test_a_wrong_clock_ends_nothing(
        self, world: World, backend: Backend, order: Order, instance: Instance
    ) -> None:
        """A wall clock of the bridge that leaps beyond the end ends no machine, and makes no second one on a retry.

        The same order is then met by its machine, or refused with that machine gone.

        Troubleshooting: look for the token's machine before you refuse an end that has passed.
        """
        power(backend, SupportsDeadMansSwitch)
        await power(world, SupportsClockJump).jump_clock(3 * HOUR_MS)
        await a_moment(world)
        spared = await world.running()
        met = set()
        with suppress(UnservableError):
            met = {(await make(world, backend, order)).id}
        await settle(world, backend)

        assert spared == {instance.id}, "the machine ended, for the bridge's clock leapt beyond its end"
        assert await world.running() == met <= {instance.id}, "a retry was refused, and its machine runs on"


@frozen
class _Left:
    """A machine that its bridge has left alone; ``ends_ms`` is its end on the clock that never jumps."""

    world: World
    instance: Instance
    ends_ms: int
    grace_ms: int

    async def gone_ms(self) -> int | None:
        """Return when the machine was first seen gone, or None where it outlives its end and the grace."""
        clock = self.world.clock
        while True:
            asked_ms = clock.monotonic_ms()
            if self.instance.id not in await self.world.running():
                return clock.monotonic_ms()
            if asked_ms >= self.ends_ms + self.grace_ms:
                return None
            await self.world.let_pass(max(1, self.world.near_end_ms // _LOOKS))


async def _make_and_leave(world: World) -> _Left:
    async with world.open() as backend:
        power(backend, SupportsDeadMansSwitch)
        return await _make_near(world, backend)


async def _make_near(world: World, backend: Backend) -> _Left:
    async with patience(world, "list its offers"):
        offers = await backend.offers()
    ends_ms = world.clock.monotonic_ms() + world.near_end_ms
    order = evolve(world.order(offers[0]), ends_at=UtcMs(world.clock.utc_ms() + world.near_end_ms))
    instance = await make(world, backend, order)
    return _Left(world, instance, ends_ms, power(backend, SupportsDeadMansSwitch).dead_mans_grace_ms)


async def _cleared(world: World, before: frozenset[str]) -> bool:
    """Return whether nothing is left beyond ``before``; what ends by itself is given a while."""
    for _ in range(_LOOKS):
        if await power(world, SupportsLeftovers).leftovers() <= before:
            return True
        await a_moment(world)
    return False

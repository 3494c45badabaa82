"""The promises of a backend that is told before a machine is taken away; skipped where it is not."""

from collections.abc import Iterable

import anyio
import pytest

from compute_bridge.model.ids import InstanceId
from compute_bridge.ports.backend import Backend, Instance
from compute_bridge.ports.errors import BackendError
from compute_bridge.ports.notices import Interruption, SupportsNotices
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
from compute_bridge.testing.world import SupportsAnnounce, SupportsStranger, World

# A cloud may tell times in whole seconds.
_ROUNDING_MS = 1000
# An SDK tries a few times before it says that nothing answers.
_SILENT_MOMENTS = 50


class NoticingPromises(Situation):
    """What ``next_notices`` promises."""

    @pytest.fixture
    async def told_of(self, world: World, backend: Backend) -> Instance:
        """Return a machine that may be announced: of a spot offer where there is one."""
        power(backend, SupportsNotices)
        power(world, SupportsAnnounce)
        return await _another(world, backend)

    async def test_a_notice_names_the_machine(self, world: World, backend: Backend, told_of: Instance) -> None:
        """A notice names a machine as ``provision`` did, alone, and the moment at which it goes, or none.

        Troubleshooting: build the id as ``list_owned`` does; a moment that has passed when it is announced is not the
        machine's end, and where the cloud does not say when, ``at`` is 0.
        """
        await _another(world, backend)
        announced_ms = world.clock.utc_ms()
        await power(world, SupportsAnnounce).announce(told_of.id)
        told = await _told(world, backend)

        assert _ids(told) == {told_of.id}, f"{told} is announced, and {told_of.id} alone will be taken away"
        assert all(one.at == 0 or one.at > announced_ms - _ROUNDING_MS for one in told), (
            f"announced at {announced_ms}, it is said to go at {told[0].at}"
        )

    async def test_strangers_are_not_announced(self, world: World, backend: Backend, told_of: Instance) -> None:
        """Machines of the account without our tags are nobody's business: they are not announced.

        Troubleshooting: filter by the tag that says a machine is ours, as ``list_owned`` does.
        """
        await power(world, SupportsAnnounce).announce(await power(world, SupportsStranger).start_stranger())
        await power(world, SupportsAnnounce).announce(told_of.id)
        told = _ids(await _told(world, backend))

        assert told == {told_of.id}, f"{sorted(told)} are announced, and only {told_of.id} of them is ours"

    async def test_a_notice_is_told_once(self, world: World, backend: Backend, told_of: Instance) -> None:
        """What was told is not told again by itself; with something new all that stands is told.

        Troubleshooting: remember what was told, and compare it with what stands; wait for as long as that is alike.
        """
        other = await _another(world, backend)
        await power(world, SupportsAnnounce).announce(told_of.id)
        await _told(world, backend)
        with anyio.move_on_after(world.moment_s):
            raise AssertionError(f"told of already, {await _asked(backend)} is told again")
        await power(world, SupportsAnnounce).announce(other.id)
        told = _ids(await _told(world, backend))

        assert told == {told_of.id, other.id}, f"{sorted(told)} is not all that stands: {told_of.id} and {other.id}"

    async def test_another_process_is_told_again(self, world: World, backend: Backend, told_of: Instance) -> None:
        """Every notice that stands is told by any process, whichever was told of it before, and in the same words.

        Troubleshooting: after a restart the bridge has lost what it was told just before; ask the account what stands.
        """
        other = await _another(world, backend)
        for one in (told_of, other):
            await power(world, SupportsAnnounce).announce(one.id)
        before = await _told(world, backend)
        await a_moment(world)
        async with world.open() as fresh:
            after = await _told(world, fresh)

        assert _ids(after) == {told_of.id, other.id}, f"another process is told of {sorted(_ids(after))} alone"
        assert set(after) == set(before), f"another process is told {after}, and this one was told {before}"

    async def test_nothing_is_announced_while_nothing_is(
        self, world: World, backend: Backend, told_of: Instance
    ) -> None:
        """While no machine is about to be taken away ``next_notices`` waits.

        Troubleshooting: return only for something new; an empty answer keeps the host asking.
        """
        with anyio.move_on_after(world.moment_s):
            raise AssertionError(f"{told_of.id} runs, and {await _asked(backend)} is announced")

    async def test_waiting_for_notices_can_be_cancelled(
        self, world: World, backend: Backend, told_of: Instance
    ) -> None:
        """A call that is cancelled ends as cancelled; what it would have returned the next one returns.

        Troubleshooting: mark as told what you return, as the last thing that you do, with no ``await`` after it.
        """
        told: list[Interruption] = []

        async def wait() -> None:
            told.extend(await _asked(backend))

        async with tasks_of_a_test() as tasks:
            tasks.start_soon(wait)
            await a_moment(world)
            await power(world, SupportsAnnounce).announce(told_of.id)
            await a_moment(world)
            tasks.cancel_scope.cancel()
        told.extend([] if told else await _told(world, backend))

        assert _ids(told) == {told_of.id}, f"after a call that was cancelled {told} is told"

    async def test_silence_announces_nothing(self, world: World, backend: Backend, told_of: Instance) -> None:
        """Cannot observe is not announced: while nothing answers no call returns; afterwards what stands is told.

        Troubleshooting: raise ``UnavailableError``, as any method, or wait; an empty answer is an answer.
        """
        async with world.open() as other:
            await world.go_down()
            await power(world, SupportsAnnounce).announce(told_of.id)
            error = await _raised_in_silence(world, other)
            await world.come_back()
            told = _ids(await _told(world, other))

        assert error is None or other.name in str(error), f"next_notices does not say which backend failed: {error}"
        assert told == {told_of.id}, f"after the silence {sorted(told)} is announced, and not {told_of.id}"

    async def test_an_announced_machine_can_be_terminated(
        self, world: World, backend: Backend, told_of: Instance
    ) -> None:
        """Until it is taken away a machine is there: it is listed, and ``terminate`` ends it and its notice.

        Troubleshooting: whatever state the cloud shows meanwhile, the machine costs and is dialled until it is gone.
        """
        await power(world, SupportsAnnounce).announce(told_of.id)
        await _told(world, backend)
        owned = [machine.id for machine in await backend.list_owned()]
        await end(world, backend, told_of.id)

        assert owned == [told_of.id], f"{told_of.id} is announced and not gone, and list_owned() tells {owned}"
        assert await world.running() == frozenset(), "terminate of an announced machine returned and it runs on"
        async with world.open() as other:
            with anyio.move_on_after(world.moment_s):
                raise AssertionError(f"every machine is gone, and {await _asked(other)} is announced")


async def _another(world: World, backend: Backend) -> Instance:
    async with patience(world, "list its offers"):
        offers = await backend.offers()
    offer = next((offer for offer in offers if offer.spot), offers[0])
    return await make(world, backend, world.order(offer))


async def _asked(backend: Backend) -> tuple[Interruption, ...]:
    return await power(backend, SupportsNotices).next_notices()


async def _raised_in_silence(world: World, backend: Backend) -> BackendError | None:
    try:
        with anyio.move_on_after(_SILENT_MOMENTS * world.moment_s):
            raise AssertionError(f"nothing answers, and {await _asked(backend)} is announced")
    except BackendError as error:
        return error
    return None


async def _told(world: World, backend: Backend) -> tuple[Interruption, ...]:
    await settle(world, backend)
    async with patience(world, "tell a notice"):
        return await _asked(backend)


def _ids(told: Iterable[Interruption]) -> set[InstanceId]:
    return {one.instance for one in told}

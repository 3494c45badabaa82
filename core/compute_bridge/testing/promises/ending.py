"""The promises about the life and the end of a machine: ``usage``, ``watch_until_exit``, ``terminate``."""

import anyio
import pytest
from attrs import asdict

from compute_bridge.model.ids import InstanceId
from compute_bridge.model.usage import UsageMetrics
from compute_bridge.ports.backend import Backend, ExitCause, Instance, Offer
from compute_bridge.ports.errors import UnavailableError
from compute_bridge.testing.promises.situation import (
    Situation,
    a_moment,
    end,
    make,
    patience,
    power,
    settle,
    terminate,
    watching,
)
from compute_bridge.testing.world import SupportsKill, SupportsStranger, World

_NOBODY = InstanceId("no-such-machine")
_BY_ITSELF = (ExitCause.EXITED, ExitCause.PREEMPTED, ExitCause.LOST)
_CLOCK_ERROR_MS = 3_600_000


class EndingPromises(Situation):
    """What ``terminate``, ``watch_until_exit`` and ``usage`` promise."""

    async def test_terminate_removes_the_machine(self, world: World, backend: Backend, instance: Instance) -> None:
        """When ``terminate`` returns, the machine no longer exists and costs nothing.

        Troubleshooting: wait until the account shows it gone, or raise ``NotYetTerminatedError`` to be asked again.
        """
        await terminate(world, backend, instance.id)

        assert await world.running() == frozenset(), "terminate returned and the machine runs on"

    async def test_terminate_may_be_called_twice(self, world: World, backend: Backend, instance: Instance) -> None:
        """A machine that is gone already can be terminated again, by any process.

        Troubleshooting: take the cloud's "not found" for success.
        """
        await end(world, backend, instance.id)
        async with world.open() as other:
            await end(world, other, instance.id)

        assert await world.running() == frozenset(), "terminate returned twice and the machine runs on"

    async def test_terminate_of_a_stranger_returns(self, world: World, backend: Backend, instance: Instance) -> None:
        """An id that the account does not know is as good as gone, and nothing else is ended for it.

        Troubleshooting: an id of the wrong form too; where the cloud calls that a bad request, take it for "not found".
        """
        await end(world, backend, _NOBODY)

        assert await world.running() == {instance.id}, "terminate of an unknown id ended a machine"

    async def test_terminate_spares_the_others(
        self, world: World, backend: Backend, offer: Offer, instance: Instance
    ) -> None:
        """One machine is ended, and none beside it.

        Troubleshooting: end by id; what two machines share (a network, a disk image) outlives the first of them.
        """
        other = await make(world, backend, world.order(offer))
        await end(world, backend, instance.id)

        assert await world.running() == {other.id}, "terminate of one machine did not end that one alone"

    async def test_terminate_spares_what_is_not_ours(self, world: World, backend: Backend) -> None:
        """A machine without our tags is never ended, even when asked for by its id.

        Troubleshooting: look at the tags before you delete; a wrong id in a journal must cost nobody a machine.
        """
        stranger = await power(world, SupportsStranger).start_stranger()
        await end(world, backend, stranger)

        assert await world.running() == {stranger}, "terminate ended a machine that carries none of our tags"

    async def test_another_process_takes_over(self, world: World, instance: Instance) -> None:
        """A machine can be watched, metered and ended by a process that did not make it.

        Troubleshooting: after a restart the bridge knows ids only; look everything else up.
        """
        async with world.open() as other:
            async with watching(world, other, instance.id) as [watch]:
                async with patience(world, "tell the usage"):
                    await other.usage(instance.id)
                await end(world, other, instance.id)

                assert (await watch.exit()).cause is ExitCause.TERMINATED, "another process saw another end"

        assert await world.running() == frozenset(), "another process could not end the machine"

    async def test_watch_sees_terminate(self, world: World, backend: Backend, instance: Instance) -> None:
        """A watch ends when the machine is terminated, and says so, with the time where the backend can tell it.

        Troubleshooting: read the cause from the account's record of the end; a missing machine alone is ``LOST``.
        """
        async with watching(world, backend, instance.id) as [watch]:
            await end(world, backend, instance.id)
            seen = await watch.exit()

        assert seen.cause is ExitCause.TERMINATED, f"a machine that was terminated is said to have {seen.cause}"
        late_ms = world.clock.utc_ms() - seen.ended_at
        assert seen.ended_at == 0 or abs(late_ms) < _CLOCK_ERROR_MS, f"ended at {seen.ended_at}, {late_ms} ms ago"

    async def test_watch_sees_a_death(self, world: World, backend: Backend, instance: Instance) -> None:
        """A watch tells a machine that died by itself from one that we terminated.

        Troubleshooting: what a lease costs and what is said of its provider depend on it; do not default to
        ``TERMINATED``.
        """
        mortal = power(world, SupportsKill)
        async with watching(world, backend, instance.id) as [watch]:
            await mortal.kill(instance.id)
            seen = await watch.exit()

        assert seen.cause in _BY_ITSELF, f"a machine that died by itself is said to have {seen.cause}"

    async def test_watch_of_the_dead_ends_at_once(self, world: World, backend: Backend, instance: Instance) -> None:
        """A watch that begins after the end returns at once.

        Troubleshooting: look at the state first and wait for a change only after that.
        """
        await end(world, backend, instance.id)
        async with watching(world, backend, instance.id) as [watch]:
            await watch.exit()

    async def test_watch_of_a_stranger_ends_at_once(self, world: World, backend: Backend) -> None:
        """A watch of a machine that the account has forgotten, or never knew, returns at once.

        Troubleshooting: "not found" is an answer, and means gone; only silence means wait.
        """
        async with watching(world, backend, _NOBODY) as [watch]:
            await watch.exit()

    async def test_watch_can_be_cancelled(self, world: World, backend: Backend, instance: Instance) -> None:
        """A cancelled watch ends as cancelled; it returns no exit, and the machine runs on.

        Troubleshooting: let the cancellation pass; a bare ``except`` around a wait swallows it.
        """
        with anyio.move_on_after(world.moment_s):
            seen = await backend.watch_until_exit(instance.id)
            raise AssertionError(f"the watch of a running machine returned {seen}")

        assert await world.running() == {instance.id}, "cancelling the watch ended the machine"

    async def test_every_watch_is_told(self, world: World, backend: Backend, instance: Instance) -> None:
        """Several watches of one machine all end.

        Troubleshooting: keep no single waiter for each machine; the second must not replace the first.
        """
        async with watching(world, backend, instance.id, times=3) as watches:
            await end(world, backend, instance.id)
            causes = [(await watch.exit()).cause for watch in watches]

        assert causes == [ExitCause.TERMINATED] * 3, f"three watches of one end told {causes}"

    async def test_watch_waits_out_silence(self, world: World, backend: Backend, instance: Instance) -> None:
        """Cannot observe is not dead: a watch goes on while nothing answers, and still sees the end afterwards.

        Troubleshooting: retry on ``UnavailableError`` for as long as it takes, by the context's clock.
        """
        async with watching(world, backend, instance.id) as [watch]:
            await world.go_down()
            # Beyond the consistency window, in which absence means nothing anyway.
            for _ in range(2):
                await settle(world, backend)
                await a_moment(world)
            await world.come_back()
            await settle(world, backend)
            await a_moment(world)
            assert watch.seen is None, f"the watch took silence for an end: {watch.seen}"
            await end(world, backend, instance.id)

            assert (await watch.exit()).cause is ExitCause.TERMINATED, "the watch missed the end after the silence"

    async def test_usage_grows(self, world: World, backend: Backend, instance: Instance) -> None:
        """Usage may be asked at any time; no figure ever falls, and its source stays the same.

        Troubleshooting: meter from the start of the machine, not since the last question, and in whole units.
        """
        async with patience(world, "tell the usage"):
            before = await backend.usage(instance.id)
            await a_moment(world)
            async with world.open() as other:
                after = await other.usage(instance.id)

        assert _sources(before) == _sources(after), "the source of a figure changed"
        assert all(then <= now for then, now in zip(_values(before), _values(after), strict=True)), (
            f"a figure of the usage fell: {before}, then {after}"
        )

    async def test_usage_of_a_stranger_is_unavailable(self, world: World, backend: Backend) -> None:
        """The usage of a machine that is not known is not zero, it is unknown.

        Troubleshooting: raise ``UnavailableError``; a made-up zero would be billed as one.
        """
        with pytest.raises(UnavailableError):
            async with patience(world, "tell the usage"):
                await backend.usage(_NOBODY)


def _values(usage: UsageMetrics) -> list[int]:
    return [figure["value"] for figure in asdict(usage).values()]


def _sources(usage: UsageMetrics) -> list[str]:
    return [figure["source"] for figure in asdict(usage).values()]

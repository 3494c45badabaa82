"""Faults in the life and the end of a machine."""

import anyio
from attrs import evolve

from compute_bridge.model.ids import InstanceId
from compute_bridge.model.units import UtcMs
from compute_bridge.model.usage import Figure, UsageMetrics, UsageSource
from compute_bridge.ports.backend import BackendContext, ExitCause, Instance, InstanceExit, Order
from compute_bridge.ports.errors import UnavailableError
from compute_bridge.testing.faults.planted import Faulty, planted
from compute_bridge.testing.memory_account import Client


@planted("test_terminate_removes_the_machine", says="the machine runs on")
class TerminatesNothing(Faulty):
    """Terminates nothing."""

    async def terminate(self, instance: InstanceId) -> None:
        """Return."""


@planted("test_terminate_may_be_called_twice", "test_terminate_of_a_stranger_returns", says="UnavailableError")
class TerminatesOnce(Faulty):
    """Fails where the machine is gone."""

    async def terminate(self, instance: InstanceId) -> None:
        """Let the cloud's "not found" out as a failure."""
        with self._translated(f"terminate {instance}"):
            await self._client.delete(instance)


@planted("test_terminate_spares_the_others", "test_terminate_of_a_stranger_returns", says="did not end that one alone")
class TerminatesEverything(Faulty):
    """Ends every machine of ours."""

    async def terminate(self, instance: InstanceId) -> None:
        """Delete without looking at the id."""
        with self._translated("terminate"):
            await self._delete(await self._live())


@planted("test_terminate_spares_what_is_not_ours", says="carries none of our tags")
class TerminatesStrangers(Faulty):
    """Ends a machine that is not ours."""

    async def terminate(self, instance: InstanceId) -> None:
        """Delete without looking at the tags."""
        with self._translated("terminate"):
            await self._delete(await self._client.list(lambda machine: machine.id == instance))


@planted("test_another_process_takes_over", says="did not end the watch")
class ServesOnlyItsOwn(Faulty):
    """Ends only what this process has made."""

    def __init__(self, context: BackendContext, client: Client) -> None:
        super().__init__(context, client)
        self._made: set[InstanceId] = set()

    async def provision(self, order: Order) -> Instance:
        """Remember what was made."""
        instance = await super().provision(order)
        self._made.add(instance.id)
        return instance

    async def terminate(self, instance: InstanceId) -> None:
        """Forget what another process has made."""
        if instance in self._made:
            await super().terminate(instance)


class _Renaming(Faulty):
    cause: ExitCause

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        return evolve(await super().watch_until_exit(instance), cause=self.cause)


@planted("test_watch_sees_terminate", says="LOST")
class CallsEveryEndALoss(_Renaming):
    """Sees that a machine is gone, and not why."""

    cause = ExitCause.LOST


@planted("test_watch_sees_a_death", says="is said to have terminated")
class CallsEveryEndATermination(_Renaming):
    """Calls every end a termination."""

    cause = ExitCause.TERMINATED


@planted("test_watch_of_the_dead_ends_at_once", says="did not end the watch")
class WaitsForTheDead(Faulty):
    """Waits for a change, which never comes to the dead."""

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Wait for ever where the machine has ended already."""
        if self.account.machines[instance].is_gone:
            await anyio.sleep_forever()
        return await super().watch_until_exit(instance)


@planted("test_watch_of_a_stranger_ends_at_once", says="UnavailableError")
class CannotWatchStrangers(Faulty):
    """Takes "not found" for a failure."""

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Raise for a machine that the account has forgotten."""
        if instance not in self.account.machines:
            raise UnavailableError(f"backend {self.name}: no machine {instance}")
        return await super().watch_until_exit(instance)


@planted("test_watch_can_be_cancelled", says="the watch of a running machine returned")
class SwallowsCancellation(Faulty):
    """Swallows a cancellation of the watch."""

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Return whatever happens."""
        try:
            return await super().watch_until_exit(instance)
        except anyio.get_cancelled_exc_class():
            return InstanceExit(ExitCause.LOST, UtcMs(0))


@planted("test_every_watch_is_told", says="did not end the watch")
class TellsOneWatcher(Faulty):
    """Keeps one waiter for each machine."""

    def __init__(self, context: BackendContext, client: Client) -> None:
        super().__init__(context, client)
        self._watched: set[InstanceId] = set()

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Tell only the first."""
        if instance in self._watched:
            await anyio.sleep_forever()
        self._watched.add(instance)
        return await super().watch_until_exit(instance)


@planted("test_watch_waits_out_silence", says="took silence for an end")
class TakesSilenceForDeath(Faulty):
    """Takes a cloud that does not answer for a machine that is gone."""

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Return at the first failure."""
        try:
            with self._translated("watch"):
                await self._client.wait_gone(instance)
        except UnavailableError:
            return InstanceExit(ExitCause.LOST, UtcMs(0))
        return InstanceExit(ExitCause.TERMINATED, UtcMs(0))


@planted("test_usage_grows", says="a figure of the usage fell")
class TellsWhatIsLeft(Faulty):
    """Tells what is left of the time for what was used."""

    async def usage(self, instance: InstanceId) -> UsageMetrics:
        """Return figures that fall."""
        tags = self.account.machines[instance].tags
        left_ms = int(tags["cb-ends-at"]) - self._context.clock.utc_ms()
        return UsageMetrics(wall_ms=Figure(left_ms, UsageSource.BACKEND))


@planted("test_usage_grows", says="is not a whole number")
class TellsUsageInSeconds(Faulty):
    """Tells the usage in seconds with a fraction."""

    async def usage(self, instance: InstanceId) -> UsageMetrics:
        """Return a float."""
        wall_ms = (await super().usage(instance)).wall_ms.value
        return UsageMetrics(wall_ms=Figure(wall_ms / 1000, UsageSource.BACKEND))  # type: ignore[arg-type]


@planted("test_usage_of_a_stranger_is_unavailable", says="DID NOT RAISE")
class MetersNobody(Faulty):
    """Tells zero where it knows nothing."""

    async def usage(self, instance: InstanceId) -> UsageMetrics:
        """Return what nobody measured."""
        try:
            return await super().usage(instance)
        except UnavailableError:
            return UsageMetrics()

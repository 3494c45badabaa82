"""Faults in what ends a machine without a bridge."""

from typing import cast

from attrs import evolve

from compute_bridge.model.ids import InstanceId, Token
from compute_bridge.model.units import HOUR_MS, Milliseconds, UtcMs
from compute_bridge.ports.backend import DeadMansSwitch, ExitCause, Instance, InstanceExit, Order
from compute_bridge.ports.errors import UnservableError
from compute_bridge.testing.faults.planted import Faulty, planted


@planted("test_the_switch_is_declared", says="which is no DeadMansSwitch")
class DeclaresAWordOfItsOwn(Faulty):
    """Declares a mechanism that nobody knows."""

    @property
    def dead_mans_switch(self) -> DeadMansSwitch:
        """Return another word."""
        return cast("DeadMansSwitch", "somehow")


@planted("test_the_switch_is_declared", says="dead_mans_grace_ms is -1")
class IsLateByLessThanNothing(Faulty):
    """Declares a grace that is none."""

    @property
    def dead_mans_grace_ms(self) -> Milliseconds:
        """Return a negative time."""
        return Milliseconds(-1)


@planted("test_the_switch_is_declared", says="dead_mans_leaves_bill is neither")
class TellsOfNoBill(Faulty):
    """Declares nothing where it is asked whether it leaves a bill."""

    @property
    def dead_mans_leaves_bill(self) -> bool:
        """Return nothing."""
        return cast("bool", None)


@planted("test_the_end_comes_without_a_bridge", "test_a_wrong_clock_keeps_nothing_alive", says="the machine runs on")
class NeverEnds(Faulty):
    """Tells the vendor an end that is long to come."""

    def _left_ms(self, ends_at: UtcMs) -> int:
        return super()._left_ms(ends_at) + 1000 * HOUR_MS


@planted("test_the_end_comes_without_a_bridge", says="the machine runs on")
class EndsWhatItLooksAt(NeverEnds):
    """Ends what is overdue as it next lists its machines, which a bridge that is gone never does."""

    async def list_owned(self) -> tuple[Instance, ...]:
        """Terminate the overdue, and list the others."""
        owned = await super().list_owned()
        now = self._context.clock.utc_ms()
        for instance in owned:
            if instance.ends_at <= now:
                await self.terminate(instance.id)
        return tuple(instance for instance in owned if instance.ends_at > now)


@planted("test_nothing_ends_before_its_end", "test_the_end_is_told_as_a_deadline", says="ms early")
class EndsHalfWay(Faulty):
    """Tells the vendor half of what is left."""

    def _left_ms(self, ends_at: UtcMs) -> int:
        return super()._left_ms(ends_at) // 2


@planted("test_the_end_is_told_as_a_deadline", says="its exit is told as")
class LosesTheDeadline(Faulty):
    """Knows no deadline among the ends."""

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Return every end as a loss."""
        return evolve(await super().watch_until_exit(instance), cause=ExitCause.LOST)


@planted("test_the_end_is_told_as_a_deadline", says="its exit is told as")
class ClaimsTheDeadline(Faulty):
    """Takes every machine that ended for one that it has terminated."""

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Return every end as our own."""
        return evolve(await super().watch_until_exit(instance), cause=ExitCause.TERMINATED)


@planted("test_the_end_is_told_as_a_deadline", says="is told to have ended at")
class TellsTheStartForTheEnd(Faulty):
    """Tells when the machine started for when it ended."""

    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Return the wrong column of the vendor's record."""
        exit_ = await super().watch_until_exit(instance)
        return evolve(exit_, ended_at=UtcMs(self.account.machines[instance].started_ms))


@planted("test_the_end_is_told_as_a_deadline", says="find() tells of a machine that has ended")
class FindsTheExpired(Faulty):
    """Finds a machine by its name, whether or not it has expired."""

    async def find(self, token: Token) -> Instance | None:
        """Show the machine as it was."""
        expired = [one for one in self.account.machines.values() if one.state == "expired"]
        for machine in expired:
            self.account.put(evolve(machine, state="ready"))
        found = await super().find(token)
        for machine in expired:
            self.account.put(machine)
        return found


@planted("test_extend_moves_the_switch", says="before its new end")
class MovesTheTagAlone(Faulty):
    """Moves the end that is told, and not the one that comes."""

    async def extend(self, instance: InstanceId, ends_at: UtcMs) -> None:
        """Leave the timer as it is."""
        due_ms = self.account.timers[instance]
        await super().extend(instance, ends_at)
        self.account.timers[instance] = due_ms


@planted("test_extend_moves_the_switch", says="the machine runs on")
class ExtendsForEver(Faulty):
    """Takes the old end away, and sets no other."""

    async def extend(self, instance: InstanceId, ends_at: UtcMs) -> None:
        """Drop the timer."""
        await super().extend(instance, ends_at)
        del self.account.timers[instance]


@planted("test_terminate_takes_the_switch_away", "test_the_switch_takes_itself_away", says="behind")
class ArmsASpare(Faulty):
    """Makes a second timer, which nothing takes away."""

    async def provision(self, order: Order) -> Instance:
        """Arm the timer of no machine."""
        instance = await super().provision(order)
        self.account.arm(f"spare of {instance.id}", HOUR_MS)
        return instance


@planted(
    "test_a_wrong_clock_keeps_nothing_alive", "test_a_wrong_clock_ends_nothing", says="the bridge's clock fell back"
)
class CountsByTheBridgesClock(Faulty):
    """Ends machines by the wall clock of the bridge."""

    async def provision(self, order: Order) -> Instance:
        """Let the account read the time where the bridge does."""
        self.account.clock = self._context.clock
        return await super().provision(order)


@planted("test_a_wrong_clock_ends_nothing", says="a retry was refused, and its machine runs on")
class RefusesBeforeItLooks(Faulty):
    """Refuses an order whose end has passed without a look for its machine."""

    def _refuse_unservable(self, order: Order) -> None:
        if self._left_ms(order.ends_at) == 0:
            raise UnservableError(f"backend {self.name}: too late")

"""From one listing to the next: whether a machine has ended, and whether anybody can tell why yet."""

from attrs import define, field

from compute_bridge.cloud.machine import Machine, MachineState
from compute_bridge.cloud.places import Seen
from compute_bridge.model.ids import InstanceId
from compute_bridge.ports.clock import Clock

CAUSE_MS = 60_000
"""For how long a cause is waited for, while the cloud is ending a machine and does not say why."""


@define
class Watch:
    """One machine, looked for in listing after listing. ``window_ms`` is how long a listing may miss it."""

    instance: InstanceId
    clock: Clock
    window_ms: int
    _since_ms: dict[str, int] = field(factory=dict, init=False)

    def over(self, seen: Seen) -> Machine | bool | None:
        """Return the machine once it has ended, ``True`` once it stands in no listing, ``None`` until then.

        What is only on its way to an end may tell its cause later: the record of it is written meanwhile.
        """
        machine = seen.get(self.instance)
        if machine is None:
            return True if self._for_ms("absent") >= self.window_ms else None
        if machine.is_live:
            self._since_ms.clear()
            return None
        is_open = machine.state is MachineState.ENDING and not (machine.exit or machine.failure or machine.stays)
        return None if is_open and self._for_ms("ending") < CAUSE_MS else machine

    def _for_ms(self, looks: str) -> int:
        """Return since when it has looked so, or not as if it lived: replicas of a listing may take turns."""
        now_ms = self.clock.monotonic_ms()
        return now_ms - self._since_ms.setdefault(looks, now_ms)

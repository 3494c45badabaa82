"""The port of backends that are told before an instance is taken away."""

from abc import ABC, abstractmethod

from attrs import field, frozen

from compute_bridge.model.checks import text, whole
from compute_bridge.model.ids import InstanceId
from compute_bridge.model.units import UtcMs


@frozen
class Interruption:
    """A backend's word that it will take an instance away: ``at``, by its own record, 0 where it does not say when.

    ``detail`` is for the operator.
    """

    instance: InstanceId = field(validator=text(1, 256))
    at: UtcMs = field(validator=whole())
    detail: str = field(default="", validator=text(0, 500))


class SupportsNotices(ABC):
    """An opt-in power: the backend tells before it takes an instance away, such as spot capacity.

    The host journals a notice, warns, and publishes it to the requester; the lease goes on until the machine is gone.
    A backend whose notices reach the guest alone does not have this power.
    """

    @abstractmethod
    async def next_notices(self) -> tuple[Interruption, ...]:
        """Return the notices that stand, as soon as there is one that no earlier call returned; waits until then.

        Of the machines that carry our tags; told twice is told once. May be cancelled; what a cancelled call would
        have returned is returned by the next one.

        :raises BackendError: as any method; the host asks again.
        """

"""The port of backends at which something may stand, and cost, of a machine that no longer runs."""

from abc import ABC, abstractmethod

from attrs import field, frozen

from compute_bridge.model.checks import octets, text
from compute_bridge.model.ids import InstanceId, Token
from compute_bridge.ports.backend import Ownership


@frozen
class Remains:
    """What stands of one machine that does not run and will not again: stopped, failed, or ended by half.

    ``id``, ``token`` and ``ownership`` are as in :class:`~compute_bridge.ports.backend.Instance`; ``detail`` says for
    the operator what it is.
    """

    id: InstanceId = field(validator=text(1, 256))
    token: Token = field(validator=octets(32))
    ownership: Ownership
    detail: str = field(default="", validator=text(0, 500))


class SupportsRemains(ABC):
    """An opt-in power: what stands of machines that do not run is told, so that the sweep can have it ended.

    For a backend at which a machine that stopped, failed or was deleted by half goes on being billed, or holds a disk,
    an address or a name, until somebody deletes it. A backend at which nothing stays behind an end does not need it.
    """

    @abstractmethod
    async def list_remains(self) -> tuple[Remains, ...]:
        """Return what stands of every machine with our tags that ``list_owned`` leaves out, whoever's bridge made it.

        ``terminate`` of its id ends it, and returns when nothing of it stands. What is gone is not told, though the
        cloud may list it for a while.

        :raises BackendError: as any method; silence says nothing.
        """

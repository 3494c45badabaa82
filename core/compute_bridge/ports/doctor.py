"""The power of a backend that can prove, before the first grant, that it could serve one."""

from abc import ABC, abstractmethod
from enum import StrEnum

from attrs import field, frozen

from compute_bridge.model.checks import text


class Verdict(StrEnum):
    """What an examination came to; ``unknown`` where it could not be made."""

    OK = "ok"
    FAULT = "fault"
    UNKNOWN = "unknown"


@frozen
class Finding:
    """One thing that was examined: what, how it stands, what was seen, and the mend where it is not well.

    ``check`` is a stable word or two (``identity``, ``permission ec2:RunInstances``, ``image debian``).
    """

    check: str = field(validator=text(1, 128))
    verdict: Verdict
    detail: str = field(validator=text(0, 500))
    mend: str = field(default="", validator=text(0, 500))


class SupportsDoctor(ABC):
    """An opt-in power: identity, permissions, quotas, images, networks and clock can be examined.

    Nothing is made or ended: reads and dry runs only.
    """

    @abstractmethod
    async def examine(self) -> tuple[Finding, ...]:
        """Return what was found, the identity first; a failure of the cloud is a finding, not an error."""

"""What the holder of a request key may say about its lease."""

from enum import StrEnum

from attrs import field, frozen

from compute_bridge.model.checks import octets, text, whole
from compute_bridge.model.ids import GrantId, PublicKey
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import MAX_DURATION_MS
from compute_bridge.model.units import Milliseconds, Tick


class ControlAction(StrEnum):
    """What is asked for."""

    ACCEPT_LATE = "accept-late"
    RELEASE = "release"
    EXTEND = "extend"
    REPORT_USAGE = "report-usage"
    DISPUTE = "dispute"


@frozen
class LeaseControl:
    """One control record, signed by the request key. ``sequence`` counts from 1 for each grant.

    ``extend_ms`` is 0 unless the action is ``extend``; ``note`` is for people.
    """

    grant_id: GrantId = field(validator=octets(32))
    request_key: PublicKey = field(validator=octets(32))
    sequence: int = field(validator=whole(1))
    action: ControlAction
    extend_ms: Milliseconds = field(validator=whole(0, MAX_DURATION_MS))
    note: str = field(validator=text(0, 256))

    def __attrs_post_init__(self) -> None:
        if (self.action is ControlAction.EXTEND) != (self.extend_ms > 0):
            raise ValueError("extend_ms is positive for the action 'extend' and 0 for every other")


@frozen
class ControlVerdict:
    """The module's answer to one control record; an applied extension is in force from here on."""

    grant_id: GrantId = field(validator=octets(32))
    sequence: int = field(validator=whole(1))
    action: ControlAction
    reason: Reason
    duration_ms: Milliseconds = field(validator=whole(0, MAX_DURATION_MS))
    tick: Tick = field(validator=whole())

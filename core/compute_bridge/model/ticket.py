"""Tickets: what admits a peer, and the clauses by which one is judged."""

from enum import StrEnum

from attrs import field, frozen

from compute_bridge.model.checks import few, octets, whole
from compute_bridge.model.ids import PublicKey, RequestId
from compute_bridge.model.units import Tick


@frozen
class Ticket:
    """The issuer's leave for one request; it names the one-time key and nobody."""

    issuer: PublicKey = field(validator=octets(32))
    subject: PublicKey = field(validator=octets(32))
    request_id: RequestId = field(validator=octets(32))
    not_after: Tick = field(validator=whole(1))


@frozen
class AdmittedRequest:
    """A request as the module republishes it: the signed request, and its ticket."""

    request: bytes = field(validator=octets(1, 16384))
    ticket: Ticket
    admitted_at: Tick = field(validator=whole())


class ClauseKind(StrEnum):
    """What a clause of a ticket validator looks at."""

    SIGNATURE = "signature"
    MEASUREMENTS = "measurements"
    MODULE_CONFIG = "module-config"
    REPUTATION_FLOOR = "reputation-floor"


@frozen
class TicketClause:
    """One clause: ``value`` is a key, a measurements hash or a fingerprint; ``floor`` a score."""

    kind: ClauseKind
    value: bytes = field(default=b"", validator=octets(0, 64))
    floor: int = field(default=0, validator=whole())


@frozen
class TicketValidator:
    """The clauses that must all hold."""

    clauses: tuple[TicketClause, ...] = field(validator=few(1, 16))

"""One round of the market's matching: what went in, what came out, and why."""

from attrs import field, frozen

from compute_bridge.model.checks import few, label, octets, text, whole
from compute_bridge.model.ids import BandName, Fingerprint, GrantId, ProviderId, RequestId
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import Posture, Region
from compute_bridge.model.units import BasisPoints, MicrosPerHour, Tick

CHUNK = 256
"""How many verdicts one chunk holds."""


@frozen
class Award:
    """One winner: which request goes to whom, from which row of whose card, at what rate."""

    request_id: RequestId = field(validator=octets(32))
    grant_id: GrantId = field(validator=octets(32))
    provider_id: ProviderId = field(validator=octets(32))
    card_hash: Fingerprint = field(validator=octets(32))
    region: Region = field(validator=label)
    posture: Posture
    band: BandName = field(validator=label)
    rate: MicrosPerHour = field(validator=whole(0))


@frozen
class Verdict:
    """Why one provider's bid for one request won, lost or never was. ``rate`` is 0 without a bid."""

    request_id: RequestId = field(validator=octets(32))
    provider_id: ProviderId = field(validator=octets(32))
    reason: Reason
    rate: MicrosPerHour = field(validator=whole(0))


@frozen
class VerdictChunk:
    """Verdicts ``index * CHUNK`` and following of a round."""

    round: int = field(validator=whole(1))
    index: int = field(validator=whole())
    verdicts: tuple[Verdict, ...] = field(validator=few(1, CHUNK))


@frozen
class RequestInput:
    """One request of a round: the hash of its record and the providers it must not go to again."""

    request_id: RequestId = field(validator=octets(32))
    excluded: tuple[ProviderId, ...] = field(validator=few(0, 64))


@frozen
class BandLoad:
    """How many leases of one band were open as the round began."""

    band: BandName = field(validator=label)
    open: int = field(validator=whole())


@frozen
class ProviderInput:
    """One provider of a round: its card's hash and what it had open."""

    provider_id: ProviderId = field(validator=octets(32))
    card_hash: Fingerprint = field(validator=octets(32))
    open: int = field(validator=whole())
    loads: tuple[BandLoad, ...] = field(validator=few(0, 64))


@frozen
class ClearingInputs:
    """All that a round was computed from, so that anyone can compute it again."""

    round: int = field(validator=whole(1))
    closed_at: Tick = field(validator=whole(1))
    beacon: bytes = field(validator=octets(32))
    requests: tuple[RequestInput, ...] = field(validator=few(0, 512))
    providers: tuple[ProviderInput, ...] = field(validator=few(0, 512))


@frozen
class ClearingRecord:
    """A round's commit point, hash-linked to the round before. Signed by the module.

    ``beacon`` is the hash of the tick after ``closed_at``, so it was unknown while requests could still
    come in. ``verdict_root`` is the Merkle root over the encoded verdicts in order.
    """

    round: int = field(validator=whole(1))
    previous: bytes = field(validator=octets(32))
    term: int = field(validator=whole(1))
    rule: str = field(validator=label)
    rule_fingerprint: Fingerprint = field(validator=octets(32))
    closed_at: Tick = field(validator=whole(1))
    beacon: bytes = field(validator=octets(32))
    inputs: Fingerprint = field(validator=octets(32))
    awards: tuple[Award, ...] = field(validator=few(0, 512))
    currency: str = field(validator=text(3, 8))
    requester_fee: BasisPoints = field(validator=whole(-10_000, 10_000))
    provider_fee: BasisPoints = field(validator=whole(-10_000, 10_000))
    verdict_root: bytes = field(validator=octets(32))
    verdict_count: int = field(validator=whole())

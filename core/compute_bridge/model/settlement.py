"""Who owes what for one grant: the provider's claim and the module's statement."""

from enum import StrEnum

from attrs import field, frozen

from compute_bridge.model.checks import octets, text, whole
from compute_bridge.model.ids import Fingerprint, GrantId, ProviderId
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import Micros, MicrosPerHour, Milliseconds


class EntryKind(StrEnum):
    """What a settlement entry is about."""

    CHARGE = "charge"
    REFUND = "refund"


@frozen
class SettlementKey:
    """The idempotency key of every entry: applied twice, it counts once."""

    grant_id: GrantId = field(validator=octets(32))
    kind: EntryKind
    sequence: int = field(validator=whole())


@frozen
class Claim:
    """What the bridge computes it is owed for one log. Signed by the boot key.

    ``amount`` is the charge before fees.
    """

    key: SettlementKey
    provider_id: ProviderId = field(validator=octets(32))
    log_hash: Fingerprint = field(validator=octets(32))
    rate: MicrosPerHour = field(validator=whole())
    billable_ms: Milliseconds = field(validator=whole())
    amount: Micros = field(validator=whole())
    currency: str = field(validator=text(3, 8))


@frozen
class SettlementStatement:
    """What the module booked for one log, recomputed from its own grant. Signed by the module.

    The requester's account pays ``charge + requester_fee``; the provider is owed ``charge -
    provider_fee``. It names no account.
    """

    key: SettlementKey
    provider_id: ProviderId = field(validator=octets(32))
    log_hash: Fingerprint = field(validator=octets(32))
    reason: Reason
    rate: MicrosPerHour = field(validator=whole())
    billable_ms: Milliseconds = field(validator=whole())
    charge: Micros = field(validator=whole())
    requester_fee: Micros = field(validator=whole(-(2**63)))
    provider_fee: Micros = field(validator=whole(-(2**63)))
    currency: str = field(validator=text(3, 8))

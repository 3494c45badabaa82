"""Who is good: one score for each provider and window, and who follows whom."""

from attrs import field, frozen

from compute_bridge.model.checks import label, octets, whole
from compute_bridge.model.ids import Fingerprint, ProviderId, PublicKey
from compute_bridge.model.units import Tick


@frozen
class Observation:
    """One scored fact about a provider, from one record: what, when, how much of it."""

    provider_id: ProviderId = field(validator=octets(32))
    kind: str = field(validator=label)
    tick: Tick = field(validator=whole())
    weight: int = field(validator=whole())
    record: Fingerprint = field(validator=octets(32))


@frozen
class ProviderReputationCard:
    """The score of one provider over one window of ticks, in thousandths from 0 to 1000."""

    provider_id: ProviderId = field(validator=octets(32))
    policy: str = field(validator=label)
    policy_fingerprint: Fingerprint = field(validator=octets(32))
    window_from: Tick = field(validator=whole())
    window_to: Tick = field(validator=whole())
    observations: int = field(validator=whole())
    score: int = field(validator=whole(0, 1000))


@frozen
class Bond:
    """An agent's signed, expiring statement that it follows one provider."""

    agent: PublicKey = field(validator=octets(32))
    provider_id: ProviderId = field(validator=octets(32))
    expires_at: Tick = field(validator=whole(1))

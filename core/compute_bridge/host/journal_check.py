"""The journal against what the market holds of us: one that is behind must not go on as if nothing were missing."""

import logging

from attrs import frozen

from compute_bridge.host.identity import BootSecrets, Identity
from compute_bridge.host.journal_events import KIND_OF, LossAccepted, bridge_draft, read_event
from compute_bridge.host.lease_state import (
    Ended,
    Ending,
    LeaseState,
    Logged,
    draft,
    read_facts,
)
from compute_bridge.host.market import Market
from compute_bridge.model import channels
from compute_bridge.model.card import EpochClaim
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import Fingerprint, GrantId, ProviderId, PublicKey, short
from compute_bridge.model.usage import ComputeLog
from compute_bridge.ports.errors import JournalError, RecordError
from compute_bridge.ports.journal import EventDraft, Journal
from compute_bridge.wire.signing import Signed, open_signed

logger = logging.getLogger(__name__)

LOOK_BACK = 10_000
"""How many entries of the grant stream before our cursor are looked at: a boot must end."""
LOSS_ACCEPTED = KIND_OF[LossAccepted]
_NAMED = 3
# A body that is longer than may be read could be written, and never be read again.
_PER_EVENT = 500


@frozen
class Loss:
    """What the market holds of us and the journal lacks: boots, grants, and usage logs of open leases."""

    boots: tuple[PublicKey, ...] = ()
    grants: tuple[GrantId, ...] = ()
    logs: tuple[Signed[ComputeLog], ...] = ()

    @property
    def is_none(self) -> bool:
        """Whether the journal lacks nothing."""
        return not (self.boots or self.grants or self.logs)

    @property
    def lines(self) -> tuple[str, ...]:
        """What is lacking, one sentence each, for people."""
        found = []
        if self.boots:
            found.append(f"a boot of ours, with the signing key {short(self.boots[0])}, that no event tells of")
        if self.grants:
            named = ", ".join(short(grant) for grant in self.grants[:_NAMED])
            more = ", ..." if len(self.grants) > _NAMED else ""
            found.append(f"{len(self.grants)} of our grants, which no lease is of ({named}{more})")
        found += [
            f"the usage log {short(log.hash)} of lease {short(log.value.grant_id)}, which is still open here"
            for log in self.logs
        ]
        return tuple(found)

    @property
    def accepted(self) -> tuple[LossAccepted, ...]:
        """The bodies that acknowledge exactly this, one event each."""
        logs = tuple(log.hash for log in self.logs)
        pages = [slice(start, start + _PER_EVENT) for start in range(0, max(len(self.grants), len(logs)), _PER_EVENT)]
        return (LossAccepted(self.boots), *(LossAccepted((), self.grants[page], logs[page]) for page in pages))


async def require_current(
    market: Market, journal: Journal, identity: Identity, boots: dict[PublicKey, BootSecrets]
) -> None:
    """Return if the market holds nothing of us that the journal lacks; ask before this boot draws its keys.

    ``boots`` are those of the journal. What the operator has accepted is not asked again.

    :raises JournalError: if the journal is behind, saying by what and what to do.
    :raises NetworkError: if the network does not answer.
    """
    loss = await find_loss(market, journal, identity, boots)
    if not loss.is_none:
        raise JournalError(
            f"bridge.state_dir: its journal is behind what the market holds of us: {'; '.join(loss.lines)}. "
            "It is an older copy, or another bridge has this root key. Put the newest copy back, or stop the other "
            "bridge. If the newer journal is really lost: end by hand, in each backend, what belongs to no lease of "
            "'compute-bridge journal show', then run 'compute-bridge journal accept-loss --yes'"
        )


async def find_loss(market: Market, journal: Journal, identity: Identity, boots: dict[PublicKey, BootSecrets]) -> Loss:
    """Return what the market holds of us and the journal lacks, each verified by its signature.

    Junk that anybody may write into the market's streams is no evidence.

    :raises NetworkError: if the network does not answer.
    """
    known = await _accepted(journal)
    claimed = await _claimed_key(market, identity)
    keys = {*boots, *known.boots} | ({claimed} if claimed else set())
    lost_boots = (claimed,) if claimed and claimed not in boots and claimed not in known.boots else ()
    grants = await _unknown_grants(market, journal, identity.provider, frozenset(known.grants))
    logs = await _unknown_logs(market, journal, identity.provider, keys)
    return Loss(lost_boots, grants, tuple(log for log in logs if log.hash not in known.logs))


async def accept_loss(journal: Journal, loss: Loss) -> None:
    """Write into the journal that this is lost, and take over the usage logs that the market holds.

    A lease whose log stands in the market has ended; with its log it goes on where it is settled.
    """
    drafts = [bridge_draft(body) for body in loss.accepted]
    for log in loss.logs:
        facts = await read_facts(journal, log.value.grant_id)
        drafts += _take_over(log, facts.state)
    await journal.record(*drafts)


# --- evidence -----------------------------------------------------------------------------------


async def _accepted(journal: Journal) -> LossAccepted:
    boots: list[PublicKey] = []
    grants: list[GrantId] = []
    logs: list[Fingerprint] = []
    after = 0
    while events := await journal.events(after=after, kind=LOSS_ACCEPTED):
        after = events[-1].sequence
        for event in events:
            body = read_event(event)
            if isinstance(body, LossAccepted):
                boots += body.boots
                grants += body.grants
                logs += body.logs
    return LossAccepted(tuple(boots), tuple(grants), tuple(logs))


async def _claimed_key(market: Market, identity: Identity) -> PublicKey | None:
    held = await market.network.get(channels.EPOCHS, identity.provider)
    if held is None:
        return None
    try:
        claim = open_signed(held.value, EpochClaim, market.domain, by=identity.root_key).value
    except RecordError as error:
        logger.warning("what stands as our epoch is no claim of ours, so it says nothing of the journal: %s", error)
        return None
    return claim.signing_key if claim.provider_id == identity.provider else None


async def _unknown_grants(
    market: Market, journal: Journal, provider: ProviderId, accepted: frozenset[GrantId]
) -> tuple[GrantId, ...]:
    """Return grants of ours before our cursor, which passes a grant only when its lease is in the journal."""
    known = accepted | {GrantId(row.lease) for row in await journal.lease_states()}
    cursor = await market.network.cursor(channels.bridge_consumer(provider), channels.GRANT_STREAM)
    after, found = max(0, cursor - LOOK_BACK), []
    while after < cursor:
        page = await market.network.fetch(channels.GRANT_STREAM, after=after)
        if not page:
            break
        # Asked of the bytes first: most grants are others', and a signature costs more than a look.
        ours = [one.record for one in page if one.sequence <= cursor and one.record.find(provider) >= 0]
        found += [grant for raw in ours if (grant := _grant_of(market, raw, provider)) and grant not in known]
        after = page[-1].sequence
    return tuple(found)


def _grant_of(market: Market, raw: bytes, provider: ProviderId) -> GrantId | None:
    try:
        grant = open_signed(raw, ComputeGrant, market.domain, by=market.config.signing_key).value
    except RecordError:
        return None
    return grant.id if grant.provider_id == provider else None


async def _unknown_logs(
    market: Market, journal: Journal, provider: ProviderId, keys: set[PublicKey]
) -> tuple[Signed[ComputeLog], ...]:
    found = []
    for row in await journal.lease_states(excluding=(LeaseState.SETTLED,)):
        grant = GrantId(row.lease)
        entry = await market.log_entry(grant)
        log = _own_log(market, entry.record, keys) if entry else None
        if log is None or (log.value.grant_id, log.value.provider_id) != (grant, provider):
            continue
        logged = (await read_facts(journal, grant)).get(Logged)
        if logged is None or logged.hash != log.hash:
            found.append(log)
    return tuple(found)


def _own_log(market: Market, raw: bytes, keys: set[PublicKey]) -> Signed[ComputeLog] | None:
    for key in keys:
        if raw.find(key) >= 0:
            try:
                return open_signed(raw, ComputeLog, market.domain, by=key)
            except RecordError:
                continue
    return None


# --- acceptance ---------------------------------------------------------------------------------


def _take_over(log: Signed[ComputeLog], state: LeaseState | None) -> list[EventDraft]:
    """Return the events that lead a lease from ``state`` to ``logged`` with this log."""
    value, drafts = log.value, []
    if state in (LeaseState.RUNNING, LeaseState.DELIVERED):
        drafts.append(draft(value.grant_id, Ending(value.reason), state=LeaseState.ENDING))
    detail = "taken over from the usage log in the market"
    ended = Ended(value.outcome.value, value.reason, detail, value.ended_at, value.billable_ms, value.usage)
    has_ended = state in (LeaseState.ENDED, LeaseState.LOGGED)
    drafts.append(draft(value.grant_id, ended, state=None if has_ended else LeaseState.ENDED))
    has_logged = state is LeaseState.LOGGED
    drafts.append(draft(value.grant_id, Logged(log.raw, log.hash), state=None if has_logged else LeaseState.LOGGED))
    return drafts

"""The whole story of a lease from the journal, with reason codes; ids and aggregates, nobody's secrets."""

from typing import Any

from attrs import evolve, frozen

from compute_bridge.host.journal_events import events_of, read_event
from compute_bridge.host.lease_money import LeaseMoney, money_of
from compute_bridge.host.lease_state import (
    KIND_OF,
    Ended,
    Granted,
    ProvisionIntended,
    Reaped,
    ReapIntended,
    Running,
)
from compute_bridge.host.story import StoryLine as StoryLine
from compute_bridge.host.story import tell
from compute_bridge.model.errors import RecordError, SignatureError
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import GrantId
from compute_bridge.model.units import BasisPoints
from compute_bridge.ports.errors import ComputeBridgeError, JournalError
from compute_bridge.ports.journal import Journal, JournalEvent
from compute_bridge.wire.signing import Domain, open_signed

SHORTEST_PREFIX = 4


class UnknownIdError(ComputeBridgeError):
    """No lease of this journal has such an id; check the id, or ask the bridge that served it."""


@frozen
class Story:
    """A lease's story; ``state`` is where it stands, ``money`` what it cost and paid.

    Without ids it is that of ``instance``, a machine of no lease of this journal; without money, its grant cannot
    be read.
    """

    grant_id: str
    request_id: str
    state: str
    lines: tuple[StoryLine, ...]
    instance: str = ""
    money: LeaseMoney | None = None


async def explain(
    journal: Journal, prefix: str, *, domain: Domain, module_key: Any, provider_fee: BasisPoints | None = None
) -> tuple[Story, ...]:
    """Return the stories of the leases whose grant or request id begins with ``prefix`` (hex).

    Where none does, those of the machines that were reaped and whose instance id or token begins with it.
    ``provider_fee`` is the market's; without it no margin is told.

    :raises UnknownIdError: if nothing does, or the prefix is too short to mean one.
    """
    if len(prefix) < SHORTEST_PREFIX:
        raise UnknownIdError(f"{prefix!r} is too short: give at least {SHORTEST_PREFIX} digits of an id")
    teller = _Teller(journal, domain, module_key, provider_fee)
    stories = [await teller.story(lease) for lease in await teller.find(prefix)]
    stories = stories or await _of_reaps(journal, prefix)
    if not stories:
        raise UnknownIdError(
            f"no lease of this journal has a grant or request id that begins {prefix!r}, and no machine was reaped "
            "whose id or token does"
        )
    return tuple(stories)


# --- leases ---------------------------------------------------------------------------------------


@frozen
class _Teller:
    journal: Journal
    domain: Domain
    module_key: Any
    provider_fee: BasisPoints | None

    async def find(self, prefix: str) -> list[GrantId]:
        """Return the leases that are meant; only their first events are read, and few of those opened."""
        try:
            part = bytes.fromhex(prefix[: len(prefix) // 2 * 2])
        except ValueError:
            return []
        found: dict[GrantId, None] = {}
        async for event in events_of(self.journal, kind=KIND_OF[Granted]):
            if event.lease.hex().startswith(prefix):
                found[GrantId(event.lease)] = None
            # The request's id stands in the grant as it is, so most grants need not be opened.
            elif part in event.body and (grant := self.grant_in(event)) is not None:
                if grant.request_id.hex().startswith(prefix):
                    found[GrantId(event.lease)] = None
        return list(found)

    def grant_in(self, event: JournalEvent) -> ComputeGrant | None:
        """Return the grant that an event carries, or ``None`` where it cannot be read or is not the module's."""
        try:
            body = read_event(event)
            if isinstance(body, Granted):
                return open_signed(body.grant, ComputeGrant, self.domain, by=self.module_key).value
        except (JournalError, RecordError, SignatureError):
            pass
        return None

    async def story(self, lease: GrantId) -> Story:
        """Return the story of one lease, however many events it has."""
        grant: ComputeGrant | None = None
        lines: list[StoryLine] = []
        state, facts = "", _Facts()
        async for event in events_of(self.journal, lease=lease):
            grant = grant or self.grant_in(event)
            state = event.state or state
            facts = facts.after(event)
            _append(lines, tell(event, grant))
        money = None
        if grant is not None:
            money = money_of(grant, facts.intended, facts.ended, provider_fee=self.provider_fee)
        return Story(lease.hex(), grant.request_id.hex() if grant else "", state, tuple(lines), money=money)


@frozen
class _Facts:
    """What the money of a lease hangs on: the attempt that made its machine, and its end."""

    intended: ProvisionIntended | None = None
    ended: Ended | None = None
    is_made: bool = False

    def after(self, event: JournalEvent) -> "_Facts":
        try:
            body = read_event(event)
        except JournalError:
            return self
        match body:
            case ProvisionIntended() if not self.is_made:
                return evolve(self, intended=body)
            case Running():
                return evolve(self, is_made=True)
            case Ended():
                return evolve(self, ended=body, intended=self.intended if self.is_made else None)
            case _:
                return self


def _append(lines: list[StoryLine], told: tuple[StoryLine, ...]) -> None:
    """Add what is told; of checkpoints that follow one another the last is enough."""
    if told and lines and told[0].event == lines[-1].event == "metered":
        lines.pop()
    lines += told


# --- machines of no lease -------------------------------------------------------------------------


async def _of_reaps(journal: Journal, prefix: str) -> list[Story]:
    reaps: dict[tuple[str, bytes], list[JournalEvent]] = {}
    kinds = KIND_OF[ReapIntended], KIND_OF[Reaped]
    found = [event for kind in kinds async for event in events_of(journal, kind=kind)]
    for event in sorted(found, key=lambda event: event.sequence):
        try:
            reap = read_event(event)
        except JournalError:
            continue
        if isinstance(reap, ReapIntended | Reaped) and _is_meant(reap, prefix):
            reaps.setdefault((reap.instance, event.lease), []).append(event)
    return [_reap_story(instance, lease, told) for (instance, lease), told in reaps.items()]


def _is_meant(reap: ReapIntended | Reaped, prefix: str) -> bool:
    return reap.instance.startswith(prefix) or reap.token.hex().startswith(prefix)


def _reap_story(instance: str, lease: bytes, events: list[JournalEvent]) -> Story:
    lines = tuple(line for event in events for line in tell(event, None))
    return Story(lease.hex(), "", events[-1].kind, lines, instance)

"""The whole story of a lease from the journal, with reason codes; ids and aggregates, nobody's secrets."""

from typing import Any

from attrs import frozen

from compute_bridge.host.lease_state import (
    KIND_OF,
    AttemptFailed,
    Delivered,
    Ended,
    Ending,
    Extended,
    Granted,
    Logged,
    Metered,
    Opened,
    ProvisionIntended,
    Reaped,
    ReapIntended,
    Released,
    Routed,
    Running,
    Settled,
    read_body,
)
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import charge
from compute_bridge.ports.errors import ComputeBridgeError
from compute_bridge.ports.journal import Journal, JournalEvent
from compute_bridge.wire.signing import Domain, open_signed

SHORTEST_PREFIX = 4


class UnknownIdError(ComputeBridgeError):
    """No lease of this journal has such an id; check the id, or ask the bridge that served it."""


@frozen
class StoryLine:
    """One event told: when (UTC ms), which kind, the reason code or empty, and one sentence."""

    at_ms: int
    event: str
    reason: str
    text: str


@frozen
class Story:
    """A lease's story; ``state`` is where it stands.

    Without ids it is that of ``instance``, a machine of no lease of this journal.
    """

    grant_id: str
    request_id: str
    state: str
    lines: tuple[StoryLine, ...]
    instance: str = ""


async def explain(journal: Journal, prefix: str, *, domain: Domain, module_key: Any) -> tuple[Story, ...]:
    """Return the stories of the leases whose grant or request id begins with ``prefix`` (hex).

    Where none does, those of the machines that were reaped and whose instance id or token begins with it.

    :raises UnknownIdError: if nothing does, or the prefix is too short to mean one.
    """
    if len(prefix) < SHORTEST_PREFIX:
        raise UnknownIdError(f"{prefix!r} is too short: give at least {SHORTEST_PREFIX} digits of an id")
    stories = await _of_leases(journal, prefix, domain=domain, module_key=module_key)
    stories = stories or await _of_reaps(journal, prefix)
    if not stories:
        raise UnknownIdError(
            f"no lease of this journal has a grant or request id that begins {prefix!r}, and no machine was reaped "
            "whose id or token does"
        )
    return tuple(stories)


async def _of_leases(journal: Journal, prefix: str, *, domain: Domain, module_key: Any) -> list[Story]:
    stories = []
    for row in await journal.lease_states():
        events = await journal.events(lease=row.lease, limit=100_000)
        granted = next(read_body(event) for event in events if event.kind == "granted")
        grant = open_signed(granted.grant, ComputeGrant, domain, by=module_key).value
        if grant.id.hex().startswith(prefix) or grant.request_id.hex().startswith(prefix):
            stories.append(_story(grant, row.state, events))
    return stories


async def _of_reaps(journal: Journal, prefix: str) -> list[Story]:
    events: list[JournalEvent] = []
    for kind in (KIND_OF[ReapIntended], KIND_OF[Reaped]):
        after = 0
        while page := await journal.events(kind=kind, after=after):
            events += page
            after = page[-1].sequence
    reaps: dict[tuple[str, bytes], list[JournalEvent]] = {}
    for event in sorted(events, key=lambda event: event.sequence):
        reap: ReapIntended | Reaped = read_body(event)
        if reap.instance.startswith(prefix) or reap.token.hex().startswith(prefix):
            reaps.setdefault((reap.instance, event.lease), []).append(event)
    return [_reap_story(instance, lease, told) for (instance, lease), told in reaps.items()]


def _reap_story(instance: str, lease: bytes, events: list[JournalEvent]) -> Story:
    lines = tuple(
        StoryLine(event.at_ms, event.kind, reason, text)
        for event in events
        for reason, text in _tell_reap(read_body(event))
    )
    return Story(lease.hex(), "", events[-1].kind, lines, instance)


def _story(grant: ComputeGrant, state: str, events: tuple[JournalEvent, ...]) -> Story:
    lines = [line for event in events for line in _lines(grant, event)]
    return Story(grant.id.hex(), grant.request_id.hex(), state, tuple(lines))


def _lines(grant: ComputeGrant, event: JournalEvent) -> list[StoryLine]:
    if event.kind == "terminate-intended":
        return []
    told = _tell(grant, read_body(event))
    return [StoryLine(event.at_ms, event.kind, reason, text) for reason, text in told]


def _tell(grant: ComputeGrant, body: object) -> list[tuple[str, str]]:
    match body:
        case Granted():
            where = f"{grant.region}, {grant.posture}, band {grant.band}"
            return [("won", f"round {grant.round} awarded it at {grant.rate} micros/h ({where})")]
        case Opened():
            return [("", "the envelope opened both commitments")]
        case Routed(steps=steps):
            return [tuple(line.split(" ", 1)) for line in steps]  # type: ignore[misc]
        case ProvisionIntended(backend=backend, attempt=attempt):
            return [("routed", f"attempt {attempt} on backend {backend} is about to be made")]
        case AttemptFailed(reason=reason, detail=detail):
            return [(reason.value, detail)]
        case Running(instance=instance, backend=backend):
            return [("", f"instance {instance.id} is ready on backend {backend}")]
        case _:
            return _tell_end(grant, body)


def _tell_end(grant: ComputeGrant, body: object) -> list[tuple[str, str]]:
    match body:
        case Delivered(receipt_hash=digest):
            return [("", f"receipt {digest.hex()[:12]} was sealed and replied")]
        case Extended(duration_ms=duration):
            return [("control-applied", f"the module extended it to {duration} ms")]
        case Released():
            return [("control-applied", "the requester released it")]
        case Metered(usage=usage):
            return [("", f"usage so far: {usage.core_ms.value} core-ms ({usage.core_ms.source})")]
        case Ending(reason=reason):
            return [(reason.value, "the machine is being ended")]
        case Ended(outcome=outcome, reason=reason, detail=detail, billable_ms=billable):
            owed = charge(grant.rate, billable)
            return [
                (reason.value, f"{outcome}: {billable} ms billable, {owed} micros {grant.currency} {detail}".strip())
            ]
        case Logged(hash=digest):
            return [("", f"usage log {digest.hex()[:12]} was signed and sent")]
        case Settled(reason=reason):
            return [(reason.value, "settlement has it")]
        case _:
            return _tell_reap(body)


def _tell_reap(body: object) -> list[tuple[str, str]]:
    match body:
        case ReapIntended(backend=backend, instance=instance, age_ms=age, detail=detail):
            told = f"stray {instance} on backend {backend}, seen for {age} ms, is about to be ended: {detail}"
            return [(Reason.REAPABLE.value, told)]
        case Reaped(backend=backend, instance=instance):
            return [(Reason.REAPED.value, f"stray {instance} is gone from backend {backend}")]
        case _:
            return []

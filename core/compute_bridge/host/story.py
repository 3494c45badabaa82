"""The events of a lease in words: a reason code and a sentence each; ids and aggregates, nobody's secrets."""

from datetime import UTC, datetime

from attrs import frozen

from compute_bridge.host.journal_events import read_event
from compute_bridge.host.lease_state import (
    AttemptFailed,
    Delivered,
    Ended,
    Ending,
    Extended,
    Granted,
    Logged,
    Metered,
    Noticed,
    Opened,
    ProvisionIntended,
    Reaped,
    ReapIntended,
    Released,
    Resumed,
    Routed,
    Running,
    Settled,
)
from compute_bridge.model.errors import RecordError
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import UtcMs, charge
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.errors import JournalError
from compute_bridge.ports.journal import JournalEvent
from compute_bridge.wire import codec

MAX_OFFER_BYTES = 16 * 1024

Told = list[tuple[str, str]]


@frozen
class StoryLine:
    """One event told: when (UTC ms), which kind, the reason code or empty, and one sentence."""

    at_ms: int
    event: str
    reason: str
    text: str


def tell(event: JournalEvent, grant: ComputeGrant | None) -> tuple[StoryLine, ...]:
    """Return an event of a lease in words; ``grant`` is ``None`` where it cannot be read.

    An event that cannot be read, or is of a kind that is not known, is a line that says so: it hides no other.
    """
    if event.kind == "terminate-intended":
        # The same facts as the intent to provision, written with it.
        return ()
    told: Told
    try:
        body = read_event(event)
    except JournalError as error:
        told = [("", str(error))]
    else:
        told = [("", "an event that this release does not know")] if body is None else _tell(grant, body)
    return tuple(StoryLine(event.at_ms, event.kind, reason, text) for reason, text in told)


def read_offer(intended: ProvisionIntended) -> Offer | None:
    """Return the offer as it stood when the machine was ordered, or ``None`` where it cannot be read."""
    try:
        return codec.decode(intended.offer, Offer, max_bytes=MAX_OFFER_BYTES, fill=True)
    except RecordError:
        return None


def at_utc(ms: int) -> str:
    """Return a time for people, UTC to the second."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


# --- from the grant to the machine ----------------------------------------------------------------


def _tell(grant: ComputeGrant | None, body: object) -> Told:
    match body:
        case Granted():
            return [_awarded(grant)]
        case Opened():
            return [("", "the envelope opened both commitments")]
        case Routed(steps=steps):
            return [_step(line) for line in steps]
        case ProvisionIntended():
            return [("routed", _intent(grant, body))]
        case AttemptFailed(reason=reason, detail=detail):
            return [(reason.value, detail)]
        case Running(instance=instance, backend=backend):
            started = at_utc(instance.started_at)
            return [("", f"instance {instance.id}, started {started} by its record, is ready on backend {backend}")]
        case Resumed(at=at):
            adopted = Reason.ADOPTED.value if at in ("running", "delivered", "ending") else ""
            return [(adopted, f"a later start of the bridge took the lease back, at {at}")]
        case _:
            return _tell_end(grant, body)


def _awarded(grant: ComputeGrant | None) -> tuple[str, str]:
    if grant is None:
        return ("", "the grant cannot be read, or is not signed by the module of this coalition")
    where = f"{grant.region}, {grant.posture}, band {grant.band}"
    return ("won", f"round {grant.round} awarded it at {grant.rate} micros/h ({where})")


def _step(line: str) -> tuple[str, str]:
    reason, _, text = line.partition(" ")
    return reason, text


def _intent(grant: ComputeGrant | None, intended: ProvisionIntended) -> str:
    about = f"attempt {intended.attempt} on backend {intended.backend} is about to be made"
    offer = read_offer(intended)
    if offer is None:
        return f"{about}: its offer cannot be read"
    cost = offer.cost
    stated = f"stated by {cost.source}, observed {at_utc(UtcMs(cost.observed_at))}"
    hourly = f" costs {cost.hourly(grant.requirements)} micros {cost.currency}/h," if grant else ","
    return f"{about}: offer {offer.id}{hourly} {stated}"


# --- from the machine to the settlement -----------------------------------------------------------


def _tell_end(grant: ComputeGrant | None, body: object) -> Told:
    match body:
        case Delivered(receipt_hash=digest):
            return [("", f"receipt {digest.hex()[:12]} was sealed and replied")]
        case Extended(duration_ms=duration):
            return [("control-applied", f"the module extended it to {duration} ms")]
        case Released():
            return [("control-applied", "the requester released it")]
        case Metered(usage=usage):
            return [("", f"usage so far: {usage.core_ms.value} core-ms ({usage.core_ms.source})")]
        case Noticed(at=at, detail=detail):
            when = f"at {at_utc(at)}" if at else "soon"
            return [
                (Reason.INTERRUPTION_NOTICED.value, f"its backend will take the machine away {when} {detail}".strip())
            ]
        case Ending(reason=reason):
            return [(reason.value, "the machine is being ended")]
        case Ended():
            return [(body.reason.value, _account(grant, body))]
        case Logged(hash=digest):
            return [("", f"usage log {digest.hex()[:12]} was signed and sent")]
        case Settled(reason=reason):
            return [(reason.value, "settlement has it")]
        case _:
            return _tell_reap(body)


def _account(grant: ComputeGrant | None, ended: Ended) -> str:
    owed = f", {charge(grant.rate, ended.billable_ms)} micros {grant.currency}" if grant else ""
    known = f" (its end is known by {ended.evidence})" if ended.evidence else ""
    return f"{ended.outcome}: {ended.billable_ms} ms billable{owed}{known} {ended.detail}".strip()


def _tell_reap(body: object) -> Told:
    match body:
        case ReapIntended(backend=backend, instance=instance, age_ms=age, detail=detail):
            told = f"stray {instance} on backend {backend}, seen for {age} ms, is about to be ended: {detail}"
            return [(Reason.REAPABLE.value, told)]
        case Reaped(backend=backend, instance=instance):
            return [(Reason.REAPED.value, f"stray {instance} is gone from backend {backend}")]
        case _:
            return [("", "an event that has no words yet")]

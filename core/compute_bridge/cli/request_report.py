"""What ``compute-bridge request`` tells of a request, for people and for programs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from compute_bridge.host.requester_state import Access
from compute_bridge.host.requester_status import RequestStatus
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import short
from compute_bridge.model.notice import InterruptionNotice
from compute_bridge.model.settlement import SettlementStatement
from compute_bridge.model.usage import ComputeLog

DEVELOPMENT = "DEVELOPMENT ATTESTATION: it proves nothing about hardware"


def told_status(status: RequestStatus) -> dict[str, Any]:
    """Return a status as plain data."""
    return {
        "request_id": status.request_id.hex(),
        "state": status.state.value,
        "reason": status.reason,
        "bids": [
            {"provider": bid.provider_id.hex(), "rate_micros": bid.rate, "reason": bid.reason.value}
            for bid in status.bids
        ],
        "grant": _told_grant(status.grant) if status.grant else None,
        "interruption": _told_notice(status.notice) if status.notice else None,
        "log": _told_log(status.log) if status.log else None,
        "settlement": _told_statement(status.statement) if status.statement else None,
    }


def told_access(access: Access) -> dict[str, Any]:
    """Return an accepted receipt as plain data, without any private key."""
    receipt, winner = access.receipt.value, access.winner
    return {
        "request_id": access.request.id.hex(),
        "grant": _told_grant(access.grant.value),
        "host": receipt.host,
        "port": receipt.port,
        "user": receipt.user,
        "host_key": receipt.host_key,
        "host_key_source": receipt.host_key_source,
        "credential": receipt.credential.value,
        "ends_at_ms": receipt.ends_at,
        "posture": receipt.posture.value,
        "image_digest": receipt.image_digest.hex(),
        "image_verifier": receipt.image_verifier,
        "receipt_hash": access.receipt.hash.hex(),
        "quote_hash": winner.quote_hash.hex(),
        "anchor": winner.anchor,
        "tcb_status": winner.tcb_status,
        "development_attestation": winner.development,
    }


def status_lines(status: RequestStatus) -> Iterator[str]:
    """Yield a status line by line."""
    reason = f" ({status.reason})" if status.reason else ""
    yield f"request {status.request_id.hex()}: {status.state}{reason}"
    for bid in status.bids:
        rate = f" at {bid.rate} micros/h" if bid.rate else ""
        yield f"  provider {short(bid.provider_id)}: {bid.reason}{rate}"
    if status.grant:
        yield f"  grant {status.grant.id.hex()}, {status.grant.rate} micros/h {status.grant.currency}"
    if status.notice:
        yield f"  interruption: the provider says that its backend will take the machine away {_when(status.notice)}"
    if status.log:
        yield f"  log: {status.log.outcome} ({status.log.reason}), {status.log.billable_ms} ms billable"
    if status.statement:
        paid = status.statement.charge + status.statement.requester_fee
        yield f"  settled: {paid} micros {status.statement.currency} ({status.statement.reason})"


def access_lines(access: Access) -> Iterator[str]:
    """Yield an accepted receipt line by line."""
    receipt, winner = access.receipt.value, access.winner
    ends_at = _utc(receipt.ends_at)
    yield f"request {access.request.id.hex()}: a machine, until {ends_at}"
    yield f"  grant {access.grant.value.id.hex()}, {access.grant.value.rate} micros/h {access.grant.value.currency}"
    yield f"  {receipt.user}@{receipt.host} port {receipt.port}; {receipt.credential}"
    yield f"  host key ({receipt.host_key_source}): {receipt.host_key}"
    yield f"  posture {receipt.posture}; quote under {winner.anchor}, {winner.tcb_status}"
    if winner.development:
        yield f"  {DEVELOPMENT}"
    yield f"  log in: compute-bridge request ssh {short(access.request.id)}"


def _told_grant(grant: ComputeGrant) -> dict[str, Any]:
    return {
        "grant_id": grant.id.hex(),
        "provider_id": grant.provider_id.hex(),
        "card_hash": grant.card_hash.hex(),
        "round": grant.round,
        "rate_micros": grant.rate,
        "currency": grant.currency,
        "region": grant.region,
        "posture": grant.posture.value,
        "band": grant.band,
        "duration_ms": grant.duration_ms,
    }


def _told_notice(notice: InterruptionNotice) -> dict[str, Any]:
    return {"interrupted_at_ms": notice.interrupted_at or None, "tick": notice.tick}


def _when(notice: InterruptionNotice) -> str:
    return f"at {_utc(notice.interrupted_at)}" if notice.interrupted_at else "soon"


def _utc(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _told_log(log: ComputeLog) -> dict[str, Any]:
    usage = log.usage
    figures = {
        "core_ms": usage.core_ms,
        "ram_mib_ms": usage.ram_mib_ms,
        "net_in_bytes": usage.net_in_bytes,
        "net_out_bytes": usage.net_out_bytes,
        "disk_gib_ms": usage.disk_gib_ms,
        "gpu_ms": usage.gpu_ms,
        "wall_ms": usage.wall_ms,
    }
    return {
        "outcome": log.outcome.value,
        "reason": log.reason.value,
        "billable_ms": log.billable_ms,
        "usage": {name: {"value": figure.value, "source": figure.source.value} for name, figure in figures.items()},
        "development_attestation": log.development_attestation,
    }


def _told_statement(statement: SettlementStatement) -> dict[str, Any]:
    return {
        "reason": statement.reason.value,
        "billable_ms": statement.billable_ms,
        "charge_micros": statement.charge,
        "requester_fee_micros": statement.requester_fee,
        "provider_fee_micros": statement.provider_fee,
        "currency": statement.currency,
    }

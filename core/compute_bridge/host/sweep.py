"""What an operator's tools are told of reconciliation: one sweep in full, and the gauges of every backend."""

from typing import Any

from attrs import asdict

from compute_bridge.host.missing import Missing
from compute_bridge.host.reconcile import Findings, Reconciler
from compute_bridge.host.strays import Stray
from compute_bridge.model.ids import short
from compute_bridge.model.reason import Reason
from compute_bridge.ports.errors import ComputeBridgeError
from compute_bridge.ports.remains import Remains


class NotServingError(ComputeBridgeError):
    """The bridge is still starting; ask again when it serves."""


_REAPS = (Reason.REAPABLE, Reason.REAPED, Reason.REAP_UNFINISHED)


async def answer_sweep(reconciler: Reconciler, *, act: bool, is_serving: bool) -> dict[str, Any]:
    """Return what a fresh listing shows and what follows; with ``act`` that is also done.

    :raises JournalError: if the journal cannot be read.
    :raises NotServingError: if the bridge may not act yet.
    """
    if act and not is_serving:
        raise NotServingError("the bridge has not raised its epoch yet, so it may end nothing; ask again in a moment")
    findings = await reconciler.sweep(act=act)
    return {"acted": act, **plan(findings)}


def plan(findings: Findings) -> dict[str, Any]:
    """Return the findings as JSON has them; ids of machines and grants, nothing of any requester."""
    return {
        "strays": [_stray(one) for one in findings.strays],
        "missing": [_missing(one) for one in findings.missing],
        "twins": [
            {"backend": one.backend, "lease": one.grant.hex(), "instances": list(one.instances)}
            for one in findings.twins
        ],
        "silent": [
            {"backend": one.backend, "reason": one.reason.value, "detail": one.detail} for one in findings.silences
        ],
        "adopted": len(findings.adopted),
    }


def gauges(reconciler: Reconciler) -> dict[str, Any]:
    """Return how reconciliation stands, in counts and times."""
    age_ms = reconciler.age_ms
    return {
        "age_ms": -1 if age_ms is None else age_ms,
        "reaped": reconciler.reaped,
        "lost": reconciler.lost,
        "backends": {
            gauge.backend: asdict(gauge, filter=lambda attribute, _: attribute.name != "backend")
            for gauge in reconciler.gauges()
        },
    }


def _stray(stray: Stray) -> dict[str, Any]:
    return {
        "backend": stray.backend,
        "instance": stray.machine.id,
        "token": short(stray.machine.token),
        "remains": _remains(stray),
        "age_ms": stray.age_ms,
        "grant": stray.grant.hex() if stray.grant else "",
        "action": "reap" if stray.reason in _REAPS else "leave",
        "reason": stray.reason.value,
        "detail": stray.detail,
    }


def _remains(stray: Stray) -> str:
    return (stray.machine.detail or "does not run") if isinstance(stray.machine, Remains) else ""


def _missing(missing: Missing) -> dict[str, Any]:
    return {
        "backend": missing.lease.backend,
        "lease": missing.lease.grant.hex(),
        "instance": missing.lease.instance or "",
        "for_ms": missing.for_ms,
        "action": "end" if missing.reason is Reason.LOST else "wait",
        "reason": missing.reason.value,
        "detail": missing.detail,
    }

"""What an operator's tools may ask of a running bridge: aggregates, and the story of one lease."""

from collections import Counter
from typing import Any

import attrs

from compute_bridge.host.bridge import Bridge
from compute_bridge.host.counterfactual import MOST_LINES, rates_told, read_ledger
from compute_bridge.host.explain import explain
from compute_bridge.host.sweep import NotServingError, answer_sweep, gauges
from compute_bridge.ports.errors import ComputeBridgeError

MOST_NAMED = 100
"""How many offers in quarantine are named; a clock that jumps can put a whole catalogue there."""


class UnknownQuestionError(ComputeBridgeError):
    """The control socket knows no such question; ask ``status``, ``rates``, ``sweep`` or ``explain``."""


async def answer(bridge: Bridge, question: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one question of the control socket.

    :raises UnknownQuestionError: if there is no such question.
    :raises NotServingError: if it asks for what only a bridge that serves can do.
    :raises ComputeBridgeError: if ``explain`` names no lease of this journal.
    """
    match question:
        case {"ask": "status"}:
            return await status(bridge)
        case {"ask": "drain", "undo": bool(undo)}:
            if bridge.provider is None:
                raise NotServingError("the bridge is still starting and takes no grants yet; ask again in a moment")
            if undo and bridge.stopping:
                raise NotServingError("the bridge has been told to stop and takes no grant again; start it anew")
            bridge.stop_selling(stop=not undo)
            return {"draining": not undo, "open": bridge.open_leases}
        case {"ask": "explain", "id": str(prefix)}:
            parts, config = bridge.parts, bridge.parts.market.config
            stories = await explain(
                parts.journal,
                prefix,
                domain=parts.identity.domain,
                module_key=config.signing_key,
                provider_fee=config.provider_fee,
            )
            return {"stories": [attrs.asdict(story) for story in stories]}
        case {"ask": "rates", **more}:
            return await _rates(bridge, more)
        case {"ask": "sweep", **more}:
            act = more.get("act") is True
            return await answer_sweep(bridge.reconciler, act=act, is_serving=bridge.epoch is not None)
        case _:
            raise UnknownQuestionError(
                "the control socket answers 'status', 'rates', 'sweep', 'drain' with an 'undo', and 'explain' with"
                " an 'id'"
            )


async def status(bridge: Bridge) -> dict[str, Any]:
    """Return how the bridge is: aggregates and names of the operator's own making only."""
    parts, provider = bridge.parts, bridge.provider
    leases = list(provider.leases.values()) if provider else []
    return {
        "provider": parts.identity.provider.hex(),
        "software": parts.software,
        "epoch": bridge.epoch.number if bridge.epoch else 0,
        "tick": parts.market.now,
        "development_attestation": parts.quotes.development,
        "draining": bool(provider and provider.draining),
        "stopping": bridge.stopping,
        "journal": attrs.asdict(parts.journal.health),
        "card": _card(bridge),
        "leases": {
            "open": len(leases),
            "by_state": dict(Counter(str(one.facts.state) for one in leases)),
            "ended": provider.served if provider else 0,
            "logs_waiting": provider.tools.outbox.depth if provider else 0,
            "refused": {reason.value: count for reason, count in provider.refused.items()} if provider else {},
        },
        "fleet": _fleet(bridge),
        "settled_micros": await parts.settlement.balance(),
        "currency": parts.market.config.currency,
        "dropped_records": parts.market.dropped,
    }


async def _rates(bridge: Bridge, asked: dict[str, Any]) -> dict[str, Any]:
    since_ms, limit = asked.get("since_ms", 0), asked.get("limit", 200)
    if type(since_ms) is not int or type(limit) is not int or not 1 <= limit <= MOST_LINES:
        raise UnknownQuestionError(f"'rates' takes 'since_ms', UTC, and a 'limit' of 1 to {MOST_LINES}, whole numbers")
    ledger = await read_ledger(bridge.parts.journal, since_ms=since_ms, limit=limit)
    return {
        **rates_told(bridge.parts.rates),
        "quarantined": _quarantined(bridge),
        "ledger": [attrs.asdict(line) for line in ledger],
    }


def _quarantined(bridge: Bridge) -> list[dict[str, str]]:
    return [
        {"backend": one.backend, "offer": one.offer_id, "reason": one.reason.value, "detail": one.detail}
        for one in bridge.parts.fleet.costs.quarantined[:MOST_NAMED]
    ]


def _card(bridge: Bridge) -> dict[str, Any]:
    publisher = bridge.publisher
    if publisher is None or publisher.card is None:
        return {"admitted": False, "refusal": str(publisher.refusal) if publisher and publisher.refusal else ""}
    return {
        "admitted": True,
        "hash": publisher.card.hash.hex(),
        "version": publisher.card.value.version,
        "max_leases": publisher.card.value.max_leases,
        "refreshed_at": publisher.card.value.refreshed_at,
        "refusal": str(publisher.refusal) if publisher.refusal else "",
    }


def _fleet(bridge: Bridge) -> dict[str, Any]:
    parts, findings = bridge.parts, bridge.findings
    offers = Counter(offer.backend for offer in parts.fleet.offers())
    return {
        "backends": {backend.name: offers[backend.name] for backend in parts.fleet.backends},
        "catalogs": parts.catalogs.state(),
        "dead_mans_switch": dict(parts.fleet.switches),
        "benches": [f"{bench.backend} {bench.place}: {bench.reason}" for bench in parts.fleet.bench_state()],
        "quarantined": _quarantined(bridge),
        "quarantined_in_all": len(parts.fleet.costs.quarantined),
        "rates_refused": [
            f"{'/'.join(one.row.key)}: {one.reason}: {one.detail}"
            for one in parts.rates.rates.refusals
            if not one.allowed
        ],
        "strays": len(findings.strays) if findings else 0,
        "silent": list(findings.silent) if findings else [],
        "sweep": gauges(bridge.reconciler),
    }

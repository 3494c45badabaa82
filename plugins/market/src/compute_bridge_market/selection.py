"""What takes part in a round: what is open, fresh and ours, and no more than a round can hold."""

import sqlite3
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeVar

from attrs import field, frozen

from compute_bridge.api import Bidder, OpenRequest
from compute_bridge.model.almanac import AlmanacTick
from compute_bridge.model.ids import ProviderId, PublicKey, RequestId, digest
from compute_bridge.model.units import Tick
from compute_bridge.wire.signing import Signed
from compute_bridge_market.ledger import free_credit
from compute_bridge_market.module import Module
from compute_bridge_market.occupancy import Load, loads
from compute_bridge_market.requests import open_requests
from compute_bridge_market.roster import Admitted, Roster

T = TypeVar("T")

MOST = 512
"""How many requests, and how many bidders, the inputs of one round may name."""
MOST_PAIRS = 32_768
"""How many verdicts one round may give: each takes some ten microseconds."""
_REQUEST_BYTES = 72_000
_BIDDER_BYTES = 144_000
# What one item takes in the encoded inputs, rounded up: a fixed part, and one for each thing that it lists.
_PER_REQUEST, _PER_EXCLUSION = 72, 36
_PER_BIDDER, _PER_LOAD = 128, 96


@frozen
class View:
    """What a round is computed from. ``accounts`` and ``credit`` are the market's alone."""

    closed_at: Tick
    beacon: bytes
    requests: tuple[OpenRequest, ...]
    bidders: tuple[Bidder, ...]
    accounts: dict[RequestId, PublicKey] = field(repr=False)
    credit: dict[PublicKey, int] = field(repr=False)


def select(db: sqlite3.Connection, module: Module, roster: Roster, tick: Signed[AlmanacTick]) -> View:
    """Return the view of the round that closed before ``tick``, whose hash is its beacon.

    Of more than a round can hold the beacon chooses, so that nobody waits for ever behind others.
    """
    now, beacon = tick.value.tick, tick.hash
    waiting = open_requests(db, closed_at=Tick(now - 1))
    accounts = {one.id: account for one, account in waiting}
    bidders = _draw(_bidders(module, roster, loads(db), now), _bidder_bytes, _BIDDER_BYTES, MOST, _by_provider(beacon))
    most = min(MOST, MOST_PAIRS // max(1, len(bidders)))
    requests = _draw([one for one, _ in waiting], _request_bytes, _REQUEST_BYTES, most, _by_request(beacon))
    return View(
        closed_at=Tick(now - 1),
        beacon=beacon,
        requests=tuple(sorted(requests, key=lambda one: one.id)),
        bidders=tuple(sorted(bidders, key=lambda one: one.card.provider_id)),
        accounts={one.id: accounts[one.id] for one in requests},
        credit={account: _credit(db, module, account) for account in set(accounts.values())},
    )


def _credit(db: sqlite3.Connection, module: Module, account: PublicKey) -> int:
    # An account that was struck from the file has no credit left for anything, free or not.
    settings = module.accounts.get(account)
    return free_credit(db, account, settings.credit_micros) if settings else -1


def _bidders(module: Module, roster: Roster, open_now: dict[ProviderId, Load], now: Tick) -> list[Bidder]:
    return [
        _bidder(one, open_now.get(provider, Load(0, {})))
        for provider, one in roster.current.items()
        if _takes_part(module, roster, one, now)
    ]


def _bidder(admitted: Admitted, load: Load) -> Bidder:
    return Bidder(admitted.card, admitted.hash, load.open, {str(band): count for band, count in load.bands.items()})


def _takes_part(module: Module, roster: Roster, admitted: Admitted, now: Tick) -> bool:
    """Return whether a card is fresh, its quote too, and its boot still the provider's latest."""
    card, config = admitted.card, module.config
    claim = roster.claim(card.provider_id)
    return (
        (claim is None or claim.epoch <= card.epoch)
        and now - card.refreshed_at <= config.card_max_age_ticks
        and now - card.binding.challenge_tick <= config.quote_max_age_ticks
    )


def _draw(items: Sequence[T], size: Callable[[T], int], room: int, most: int, order: Callable[[T], bytes]) -> list[T]:
    """Return as many of ``items`` as fit, all where they do, else in the order that the beacon gives."""
    drawn = sorted(items, key=order)[:most]
    sums = accumulate(map(size, drawn))
    return [item for item, total in zip(drawn, sums, strict=True) if total <= room]


def _request_bytes(one: OpenRequest) -> int:
    return _PER_REQUEST + _PER_EXCLUSION * len(one.excluded)


def _bidder_bytes(one: Bidder) -> int:
    return _PER_BIDDER + _PER_LOAD * len(one.loads)


def _by_request(beacon: bytes) -> Callable[[OpenRequest], bytes]:
    return lambda one: digest("compute-bridge/round-request/v1", beacon, one.id)


def _by_provider(beacon: bytes) -> Callable[[Bidder], bytes]:
    return lambda one: digest("compute-bridge/round-provider/v1", beacon, one.card.provider_id)

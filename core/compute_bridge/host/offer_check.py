"""What a backend declares and offers, checked before anything is built on it."""

from collections.abc import Iterable
from typing import TypeVar

from compute_bridge.host.plugin_call import PluginResultError
from compute_bridge.model.ids import BackendName
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import Capability, Posture, Resources
from compute_bridge.ports.backend import Offer

T = TypeVar("T")

_TYPES: tuple[tuple[str, type], ...] = (
    ("resources", Resources),
    ("posture", Posture),
    ("cost", CostBasis),
    ("networks", tuple),
    ("images", tuple),
    ("spot", bool),
    ("runs_oci", bool),
)


def check_offers(backend: BackendName, offers: object, *, currency: str) -> tuple[Offer, ...]:
    """Return ``offers`` when they are what the port promises.

    :raises PluginResultError: if they are no tuple of offers of this backend, one id each, each with a cost in
        ``currency``; the message names the backend and the offer.
    """
    items = _tuple_of(backend, "offers", offers, Offer)
    seen: set[str] = set()
    for offer in items:
        _check_offer(backend, offer, currency)
        if offer.id in seen:
            raise _wrong(backend, f"offer {offer.id!r} is there twice", "give every offer an id of its own")
        seen.add(offer.id)
    return items


def check_capabilities(backend: BackendName, capabilities: object) -> tuple[Capability, ...]:
    """Return ``capabilities`` when they are a tuple of capabilities.

    :raises PluginResultError: if they are anything else.
    """
    return _tuple_of(backend, "capabilities", capabilities, Capability)


def capability_union(capabilities: Iterable[Capability]) -> tuple[Capability, ...]:
    """Return the capabilities that together serve what all of them serve, in one order whatever was given.

    One that lies within another is left out.
    """
    kept: dict[tuple[str, str], list[Capability]] = {}
    # What holds another one comes before it, so each is held against the few that are kept, not against a catalogue.
    for one in sorted(set(capabilities), key=_extent, reverse=True):
        beside = kept.setdefault((one.region, one.posture.value), [])
        if not any(_within(one, other) for other in beside):
            beside.append(one)
    return tuple(sorted((one for ones in kept.values() for one in ones), key=_order))


def _check_offer(backend: BackendName, offer: Offer, currency: str) -> None:
    if offer.backend != backend:
        raise _wrong(backend, f"offer {offer.id!r} names backend {offer.backend!r}", "name its own backend")
    for name, kind in _TYPES:
        if not isinstance(getattr(offer, name), kind):
            raise _wrong(backend, f"offer {offer.id!r}: {name} is no {kind.__name__}", f"give a {kind.__name__}")
    if not isinstance(offer.cost.units, UnitNanos):
        raise _wrong(backend, f"offer {offer.id!r}: the cost has no UnitNanos", "give one")
    if type(offer.cost) is not CostBasis or type(offer.cost.units) is not UnitNanos:
        # A class of its own could say one cost here and another one later.
        raise _wrong(backend, f"offer {offer.id!r}: its cost is of a class of its own", "give CostBasis and UnitNanos")
    if any(type(nanos) is not int for nanos in offer.cost.parts):
        raise _wrong(backend, f"offer {offer.id!r}: a part of its cost is no whole number", "give nanos as int")
    if type(offer.cost.observed_at) is not int:
        raise _wrong(backend, f"offer {offer.id!r}: observed_at is no whole number", "give UTC milliseconds as int")
    if offer.cost.currency != currency:
        said = f"offer {offer.id!r} costs {offer.cost.currency}, the market settles in {currency}"
        raise _wrong(backend, said, f"state costs in {currency}")
    try:
        # The networks have no check of their own at an offer's birth; a card would meet them here.
        _ = offer.capability
    except (ValueError, TypeError) as error:
        raise _wrong(backend, f"offer {offer.id!r} is no capability: {error}", "correct the offer") from error


def _tuple_of(backend: BackendName, what: str, items: object, kind: type[T]) -> tuple[T, ...]:
    if type(items) is not tuple:
        raise _wrong(backend, f"{what} are a {type(items).__name__}", "return a tuple")
    for position, item in enumerate(items):
        if type(item) is not kind:
            raise _wrong(backend, f"{what}[{position}] is a {type(item).__name__}", f"return {kind.__name__} values")
    return items


def _wrong(backend: BackendName, what: str, mend: str) -> PluginResultError:
    return PluginResultError(f"backend {backend}: {what}; a fault of its plugin or its table: {mend}")


def _order(one: Capability) -> tuple[object, ...]:
    size = one.ceiling
    sizes = (size.cpu_millis, size.mem_mib, size.disk_gib, size.gpus)
    return (one.region, one.posture.value, one.networks, sizes, one.max_duration_ms)


def _extent(one: Capability) -> tuple[int, ...]:
    """Return what is at least as much for whatever holds ``one``, part by part, and more in one part at least."""
    size = one.ceiling
    sizes = (size.cpu_millis, size.mem_mib, size.disk_gib, size.gpus)
    return (*sizes, one.max_duration_ms, len(one.networks))


def _within(one: Capability, other: Capability) -> bool:
    return (
        (one.region, one.posture) == (other.region, other.posture)
        and set(one.networks) <= set(other.networks)
        and one.max_duration_ms <= other.max_duration_ms
        and one.ceiling.fits_in(other.ceiling)
    )

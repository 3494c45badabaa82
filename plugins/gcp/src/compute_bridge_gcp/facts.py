"""What Compute Engine tells, as plain values: read off the SDK's messages, which have the API's own field names."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from attrs import field, frozen

from compute_bridge.model.units import UtcMs
from compute_bridge_gcp.errors import ACCOUNT_QUOTA


@frozen
class Seen:
    """One instance in a listing. ``number`` is the vendor's own id, ``notice_ms`` its word before a shutdown."""

    zone: str
    name: str
    status: str
    labels: Mapping[str, str]
    metadata: Mapping[str, str] = field(repr=False)
    public: str
    private: str
    created_ms: UtcMs
    started_ms: UtcMs
    stopped_ms: UtcMs
    number: str = ""
    is_spot: bool = False
    notice_ms: int = 0


@frozen
class Operation:
    """One operation: what was done to ``target``, by whom, how far it is, and the codes of its failure."""

    zone: str
    name: str
    kind: str
    target: str
    user: str
    is_done: bool
    codes: tuple[str, ...]
    begun_ms: UtcMs
    ended_ms: UtcMs


@frozen
class RegionSeen:
    """One region: whether it is up, its zones, and how much is left of each quota."""

    name: str
    is_up: bool
    zones: tuple[str, ...]
    left: Mapping[str, float]


@frozen
class ShapeSeen:
    """One machine type in one zone. ``local_disks`` is how many it comes with."""

    zone: str
    name: str
    vcpus: int
    mem_mib: int
    accelerators: Mapping[str, int]
    architecture: str
    local_disks: int
    is_deprecated: bool


@frozen
class ImageSeen:
    """One image: its guest OS features, and the architecture that it is for."""

    features: frozenset[str]
    architecture: str


@frozen
class Sku:
    """One price of the billing catalog: ``nanos`` of ``currency`` for one ``unit``."""

    description: str
    usage: str
    regions: tuple[str, ...]
    unit: str
    nanos: int
    currency: str = "USD"


@frozen
class Rule:
    """One firewall rule, as far as we look at it."""

    name: str
    network: str
    is_ingress: bool
    allows: bool
    priority: int
    what: tuple[str, ...]
    ranges: tuple[str, ...]
    source_tags: tuple[str, ...]
    target_tags: tuple[str, ...]


def last(link: str) -> str:
    """Return the last part of a link."""
    return link.rpartition("/")[2]


def millis(stamp: str) -> UtcMs:
    """Return an RFC 3339 time in milliseconds of UTC, 0 for none."""
    return UtcMs(int(datetime.fromisoformat(stamp).timestamp() * 1000 + 0.5)) if stamp else UtcMs(0)


def stamp(ms: int) -> str:
    """Return milliseconds of UTC as an RFC 3339 time."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seen_in(instance: Any) -> Seen:
    """Return what an instance's message says."""
    cards = instance.network_interfaces
    public = [config.nat_i_p for card in cards for config in card.access_configs if config.nat_i_p]
    return Seen(
        zone=last(instance.zone),
        name=instance.name,
        status=instance.status,
        labels=dict(instance.labels),
        metadata={item.key: item.value for item in instance.metadata.items if item.key != "user-data"},
        public=public[0] if public else "",
        private=cards[0].network_i_p if cards else "",
        created_ms=millis(instance.creation_timestamp),
        started_ms=millis(instance.last_start_timestamp),
        stopped_ms=millis(instance.last_stop_timestamp),
        number=str(instance.id),
        is_spot=instance.scheduling.provisioning_model == "SPOT",
        notice_ms=1000 * instance.scheduling.preemption_notice_duration.seconds,
    )


def operation_in(message: Any) -> Operation:
    """Return what an operation's message says; its failure is in ``error``, whatever the SDK makes of it."""
    return Operation(
        zone=last(message.zone),
        name=message.name,
        kind=message.operation_type,
        target=message.target_link,
        user=message.user,
        is_done=message.status == message.DONE,
        codes=tuple(_code(error) for error in message.error.errors) or _status_alone(message),
        begun_ms=millis(message.insert_time or message.start_time),
        ended_ms=millis(message.end_time),
    )


def _code(error: Any) -> str:
    reach = " ".join(f"{one.quota_info.metric_name} {one.quota_info.limit_name}" for one in error.error_details)
    is_account = "quota" in error.code.lower() and ACCOUNT_QUOTA in reach.replace("-", "_").upper()
    return f"{error.code} {ACCOUNT_QUOTA}" if is_account else error.code


def _status_alone(message: Any) -> tuple[str, ...]:
    return (f"http-{message.http_error_status_code}",) if message.http_error_status_code >= 400 else ()


def region_in(message: Any) -> RegionSeen:
    """Return what a region's message says. Quotas that nobody here has heard of come through by their names."""
    return RegionSeen(
        name=message.name,
        is_up=message.status == "UP",
        zones=tuple(sorted(last(zone) for zone in message.zones)),
        left={quota.metric: quota.limit - quota.usage for quota in message.quotas},
    )


def shape_in(message: Any) -> ShapeSeen:
    """Return what a machine type's message says."""
    return ShapeSeen(
        zone=last(message.zone),
        name=message.name,
        vcpus=message.guest_cpus,
        mem_mib=message.memory_mb,
        accelerators={one.guest_accelerator_type: one.guest_accelerator_count for one in message.accelerators},
        architecture=message.architecture.lower(),
        local_disks=message.bundled_local_ssds.partition_count,
        is_deprecated=message.deprecated.state in ("DEPRECATED", "OBSOLETE", "DELETED"),
    )


def image_in(message: Any) -> ImageSeen:
    """Return what an image's message says; one that says nothing of its architecture is for the only one there was."""
    return ImageSeen(
        features=frozenset(feature.type_ for feature in message.guest_os_features),
        architecture=message.architecture.lower() if message.architecture in ("ARM64", "X86_64") else "x86_64",
    )


def silent_in(page: Any) -> set[str]:
    """Return the places that lack on one page of an aggregated list, such as ``zones/us-central1-a``.

    Since its version 2026-09-01 the API answers for the places that it reaches, without being asked to.
    """
    named = {*page.unreachables, *(name for name, scope in page.items.items() if _is_lacking(scope.warning.code))}
    # Where it does not say what is lacking, that may be anything.
    return named or ({"a place that it does not name"} if page.warning.code in _PARTIAL else set())


_PARTIAL = ("UNREACHABLE", "PARTIAL_SUCCESS")


def _is_lacking(code: str) -> bool:
    return code not in ("", "NO_RESULTS_ON_PAGE")


def rule_in(message: Any) -> Rule:
    """Return what a firewall rule's message says."""
    return Rule(
        name=message.name,
        network=last(message.network),
        is_ingress=message.direction != "EGRESS",
        allows=bool(message.allowed),
        priority=message.priority,
        what=tuple(
            f"{one.I_p_protocol}:{port}" for one in [*message.allowed, *message.denied] for port in one.ports or [""]
        ),
        ranges=tuple(message.source_ranges or message.destination_ranges),
        source_tags=tuple(message.source_tags),
        target_tags=tuple(message.target_tags),
    )


def skus_in(page: Mapping[str, Any]) -> list[Sku]:
    """Return the prices on one page of the billing catalog; of several tiers the dearest counts."""
    found = []
    for sku in page.get("skus", []):
        for pricing in sku.get("pricingInfo", [])[-1:]:
            expression = pricing["pricingExpression"]
            tiers = [rate["unitPrice"] for rate in expression.get("tieredRates", [])]
            found.append(
                Sku(
                    description=sku["description"],
                    usage=sku["category"]["usageType"],
                    regions=tuple(sku.get("serviceRegions", [])),
                    unit=expression["usageUnit"],
                    nanos=max((int(t.get("units", 0)) * 10**9 + int(t.get("nanos", 0)) for t in tiers), default=0),
                    currency="/".join(sorted({t["currencyCode"] for t in tiers})),
                )
            )
    return found


def sums_in(page: Mapping[str, Any], since_ms: int) -> Iterator[tuple[str, Decimal]]:
    """Return the number of an instance and what was counted of it after ``since_ms``, for each point on one page."""
    for series in page.get("timeSeries", []):
        number = str(series["resource"]["labels"].get("instance_id", ""))
        for point in series.get("points", []):
            if millis(point["interval"]["endTime"]) > since_ms:
                yield number, _amount(point["value"])


def _amount(value: Mapping[str, Any]) -> Decimal:
    """Return what was counted; a count that is none, or less than none, is nothing."""
    try:
        amount = Decimal(str(value.get("doubleValue", value.get("int64Value", 0))))
    except InvalidOperation:
        return Decimal(0)
    return amount if amount.is_finite() and amount > 0 else Decimal(0)

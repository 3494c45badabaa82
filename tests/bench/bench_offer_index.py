"""How the offer index compares with a scan of all offers, within one run; and what an update costs."""

import sys
import time
from collections.abc import Sequence
from itertools import count as counting
from typing import TypeVar

import pytest
from blake3 import blake3

from compute_bridge.host.offer_index import OfferIndex, RouteQuestion, rank, why_not
from compute_bridge.model.ids import BackendName, OfferId
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import NetworkPolicy, Posture, Region, Requirements, Resources, Zone
from compute_bridge.model.units import HOUR_MS, Milliseconds, NanosPerHour, UtcMs
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.strategy import Preference

IMAGE = ImageRef("oci@sha256:" + "ab" * 32)
BACKENDS = tuple(BackendName(name) for name in ("one", "two", "three", "four"))
REGIONS = tuple(Region(f"region-{at}") for at in range(18))
VCPUS = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128)
QUERIES = 2000
SCANS = 5


T = TypeVar("T")


class Draw:
    """Draws the same numbers in every run."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._at = counting()

    def below(self, end: int) -> int:
        drawn = blake3(f"{self._seed}/{next(self._at)}".encode()).digest(8)
        return int.from_bytes(drawn, "big") % end

    def randrange(self, start: int, end: int) -> int:
        return start + self.below(end - start)

    def choice(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]


def offers_of(backend: BackendName, count: int, draw: Draw) -> list[Offer]:
    return [one_offer(backend, at, draw) for at in range(count)]


def one_offer(backend: BackendName, number: int, draw: Draw) -> Offer:
    vcpus = draw.choice(VCPUS)
    ram_gib = vcpus * draw.choice((1, 2, 4, 8))
    price = vcpus * draw.randrange(8_000_000, 40_000_000) + ram_gib * draw.randrange(1_000_000, 5_000_000)
    units = UnitNanos(machine=NanosPerHour(price), disk_gib=NanosPerHour(110_000))
    region = draw.choice(REGIONS)
    return Offer(
        id=OfferId(f"offer-{number}"),
        backend=backend,
        region=region,
        zone=Zone(f"{region}-{draw.choice('abc')}"),
        shape=f"shape-{number % 800}",
        resources=Resources(vcpus * 1000, ram_gib * 1024, 16_384, draw.choice((0, 0, 0, 0, 1, 4, 8))),
        posture=draw.choice((Posture.NONE, Posture.NONE, Posture.TDX)),
        networks=(NetworkPolicy.EGRESS, NetworkPolicy.ISOLATED),
        cost=CostBasis("EUR", units, UtcMs(1), "bench"),
    )


def questions(draw: Draw) -> list[RouteQuestion]:
    return [one_question(draw) for _ in range(QUERIES)]


def one_question(draw: Draw) -> RouteQuestion:
    vcpus = draw.randrange(1, 130)
    size = Resources(vcpus * 1000, vcpus * 1024 * draw.choice((1, 2, 4)), 40, draw.choice((0, 0, 0, 1, 4)))
    needs = Requirements(size, Milliseconds(HOUR_MS))
    return RouteQuestion(needs, IMAGE, draw.choice(REGIONS), draw.choice((Posture.NONE, Posture.TDX)))


def scan(offers: list[Offer], asked: RouteQuestion) -> Offer | None:
    able = [one for one in offers if why_not(one, asked) is None]
    return min(able, key=lambda one: rank(one, asked.needs, BACKENDS.index(one.backend)), default=None)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def cpu_us(work, items) -> float:
    begun = time.process_time_ns()
    for item in items:
        work(item)
    return (time.process_time_ns() - begun) / len(items) / 1000


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("count", [10_000, 100_000])
def test_index_against_scan(count):
    draw = Draw(count)
    by_backend = {backend: offers_of(backend, count // len(BACKENDS), draw) for backend in BACKENDS}
    asked = questions(draw)
    everything = [one for offers in by_backend.values() for one in offers]

    begun = time.process_time_ns()
    index = OfferIndex(BACKENDS)
    for backend, offers in by_backend.items():
        index = index.replaced(backend, offers)
    build_ms = (time.process_time_ns() - begun) / 1e6
    grids = index.tally.grids

    scan_us = cpu_us(lambda one: scan(everything, one), asked[:SCANS])
    looked = index.tally.looked
    index_us = cpu_us(index.cheapest, asked)
    looks = (index.tally.looked - looked) / len(asked)
    first_us = cpu_us(lambda one: next(index.candidates(one, Preference.BOOT_ORDER), None), asked)

    begun = time.process_time_ns()
    again = [one_offer(BACKENDS[0], count, draw), *by_backend[BACKENDS[0]]]
    index = index.replaced(BACKENDS[0], again)
    update_ms = (time.process_time_ns() - begun) / 1e6

    say(f"\n{count} offers, CPU time; build {build_ms:.0f} ms for {grids} grids")
    say(f"  cheapest: scan {scan_us:.0f} us, index {index_us:.1f} us, ratio {scan_us / index_us:.0f}")
    say(f"  offers looked at for each query: scan {count}, index {looks:.2f}")
    say(f"  first in boot order: {first_us:.1f} us, ratio {scan_us / first_us:.0f}")
    say(f"  one more offer in a backend of {len(again)}: {update_ms:.1f} ms, {index.tally.grids - grids} grids built")
    for one in asked[:SCANS]:
        found = index.cheapest(one)
        expected = scan([*everything, again[0]], one)
        assert (expected and expected.id) == (found and found.offer.id)

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from compute_bridge.host.offer_index import MAX_STEPS, OfferIndex, RouteQuestion, rank, why_not
from compute_bridge.model.ids import BackendName, OfferId
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import NetworkPolicy, Posture, Region, Requirements, Resources, TdxNeed, Zone
from compute_bridge.model.units import Milliseconds, UtcMs
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.strategy import Preference

BACKENDS = (BackendName("rack"), BackendName("cloud"), BackendName("other"))
OCI = ImageRef("oci@sha256:" + "ab" * 32)
PLAIN = ImageRef("vm:plain")
BOTH = (NetworkPolicy.EGRESS, NetworkPolicy.ISOLATED)
HOUR = 3_600_000


def offer(name, backend="rack", cpu=4000, mem=8192, disk=0, gpus=0, machine=0, **more):
    units = more.pop("units", None) or UnitNanos(machine=machine, vcpu=more.pop("vcpu", 0))
    return Offer(
        id=OfferId(name),
        backend=BackendName(backend),
        region=Region(more.pop("region", "eu")),
        zone=Zone("eu-a"),
        shape="shape",
        resources=Resources(cpu, mem, disk, gpus),
        posture=more.pop("posture", Posture.NONE),
        networks=more.pop("networks", BOTH),
        cost=CostBasis("EUR", units, UtcMs(more.pop("observed", 1)), "test", more.pop("address", 0)),
        **more,
    )


def question(cpu=1000, mem=1024, disk=0, gpus=0, image=OCI, region="eu", posture=Posture.NONE, **needs):
    needs.setdefault("duration_ms", Milliseconds(HOUR))
    return RouteQuestion(Requirements(Resources(cpu, mem, disk, gpus), **needs), image, Region(region), posture)


def filled(*offers):
    index = OfferIndex(BACKENDS)
    for backend in BACKENDS:
        index = index.replaced(backend, [one for one in offers if one.backend == backend])
    return index


def brute_force(offers, asked, preference):
    able = [one for one in offers if why_not(one, asked) is None]
    if preference is Preference.CHEAPEST:
        return sorted(able, key=lambda one: rank(one, asked.needs, BACKENDS.index(one.backend)))
    return sorted(
        able, key=lambda one: (BACKENDS.index(one.backend), rank(one, asked.needs, BACKENDS.index(one.backend)))
    )


SIZES = st.sampled_from([1, 2, 3, 5, 8])
WIDE = st.integers(1, 400)
NANOS = st.sampled_from([0, 1, 999, 1000, 1001, 2_000_000])
ONE_OFFER = st.fixed_dictionaries(
    {
        "backend": st.sampled_from(BACKENDS),
        "cpu": st.one_of(SIZES, WIDE),
        "mem": st.one_of(SIZES, WIDE),
        "disk": st.sampled_from([0, 0, 10, 20]),
        "gpus": st.sampled_from([0, 0, 1, 4]),
        "region": st.sampled_from(["eu", "us"]),
        "posture": st.sampled_from([Posture.NONE, Posture.TDX]),
        "networks": st.sampled_from([BOTH, (NetworkPolicy.ISOLATED,)]),
        "units": st.builds(UnitNanos, machine=NANOS, vcpu=NANOS, disk_gib=NANOS, egress_gib=NANOS),
        "runs_oci": st.booleans(),
        "images": st.sampled_from([(), ("plain",)]),
        "max_duration_ms": st.sampled_from([HOUR, 2 * HOUR]),
    }
)
OFFERS = st.lists(ONE_OFFER, max_size=120).map(lambda many: [offer(f"o{at}", **one) for at, one in enumerate(many)])
QUESTIONS = st.builds(
    question,
    cpu=st.one_of(SIZES, WIDE),
    mem=st.one_of(SIZES, WIDE),
    disk=st.sampled_from([0, 10, 11, 30]),
    gpus=st.sampled_from([0, 1, 3, 5]),
    image=st.sampled_from([OCI, PLAIN]),
    region=st.sampled_from(["eu", "us", "moon"]),
    posture=st.sampled_from([Posture.NONE, Posture.TDX]),
    duration_ms=st.sampled_from([1, HOUR, HOUR + 1]),
    network=st.sampled_from(BOTH),
    tdx=st.sampled_from(TdxNeed),
    egress_gib=st.sampled_from([0, 7]),
    regions=st.sampled_from([(), (Region("eu"),)]),
)


@given(OFFERS, QUESTIONS, st.sampled_from(Preference))
@settings(max_examples=300)
def test_candidates_are_those_of_a_scan_in_the_order_of_a_sort(offers, asked, preference):
    found = [one.offer for one in filled(*offers).candidates(asked, preference)]

    assert brute_force(offers, asked, preference) == found


@given(OFFERS, QUESTIONS)
@settings(max_examples=200)
def test_the_cheapest_is_the_first_of_a_sort(offers, asked):
    found = filled(*offers).cheapest(asked)

    assert brute_force(offers, asked, Preference.CHEAPEST)[:1] == ([found.offer] if found else [])


@given(
    st.lists(st.tuples(WIDE, WIDE, st.integers(0, 50)), min_size=MAX_STEPS + 10, max_size=200),
    st.tuples(st.integers(1, 420), st.integers(1, 420)),
)
@settings(max_examples=100)
def test_a_lane_of_more_sizes_than_steps_loses_none(sizes, need):
    offers = [offer(f"o{at}", cpu=cpu, mem=mem, machine=price) for at, (cpu, mem, price) in enumerate(sizes)]
    asked = question(*need)
    found = [one.offer for one in filled(*offers).candidates(asked, Preference.CHEAPEST)]

    assert brute_force(offers, asked, Preference.CHEAPEST) == found


@given(OFFERS, OFFERS, QUESTIONS, st.sampled_from(Preference))
@settings(max_examples=100)
def test_an_index_that_was_updated_is_one_that_was_built_anew(first, second, asked, preference):
    updated = filled(*first)
    for backend in BACKENDS:
        updated = updated.replaced(backend, [one for one in second if one.backend == backend])

    assert list(filled(*second).candidates(asked, preference)) == list(updated.candidates(asked, preference))


@given(OFFERS, QUESTIONS, st.sampled_from(Preference))
@settings(max_examples=100)
def test_explain_gives_every_offer_the_reason_of_a_scan(offers, asked, preference):
    verdicts = {(one.backend, one.offer_id): one.reason for one in filled(*offers).explain(asked, preference)}
    able = brute_force(offers, asked, preference)
    expected = {(one.backend, one.id): why_not(one, asked) or Reason.OUTBID for one in offers}
    expected |= {(one.backend, one.id): Reason.ROUTED for one in able[:1]}

    assert expected == verdicts


@given(OFFERS, QUESTIONS)
@settings(max_examples=100)
def test_those_that_cannot_serve_are_counted_as_a_scan_counts_them(offers, asked):
    reasons = [(one.backend, reason) for one in offers if (reason := why_not(one, asked)) is not None]

    assert Counter(reasons) == filled(*offers).unable(asked)


def test_an_address_takes_its_place_in_the_order():
    index = filled(offer("bare", machine=2000), offer("with-address", "cloud", machine=1000, address=2_000_000))
    found = [(one.offer.id, one.hourly_cost) for one in index.candidates(question(), Preference.CHEAPEST)]

    assert [("bare", 2), ("with-address", 2001)] == found


def test_a_candidate_carries_its_cost_and_its_backends_place():
    index = filled(offer("a", "cloud", machine=5_000_001, vcpu=1_000_000))
    found = index.cheapest(question(cpu=2000))

    assert (7001, 1) == (found.hourly_cost, found.order)


def test_boot_order_goes_before_cost_between_backends_and_after_it_within_one():
    index = filled(
        offer("dear", "rack", machine=9000), offer("fair", "rack", machine=5000), offer("cheap", "cloud", machine=1000)
    )
    ids = [one.offer.id for one in index.candidates(question(), Preference.BOOT_ORDER)]

    assert ["fair", "dear", "cheap"] == ids


def test_backends_can_be_left_out():
    index = filled(offer("a", "rack"), offer("b", "cloud"))
    ids = [one.offer.id for one in index.candidates(question(), Preference.CHEAPEST, without={BACKENDS[0]})]

    assert ["b"] == ids


def test_whoever_walks_on_does_not_meet_an_update():
    index = filled(offer("a", machine=1), offer("b", machine=2))
    walk = index.candidates(question(), Preference.CHEAPEST)
    first = next(walk).offer.id
    index.replaced(BACKENDS[0], [])

    assert ["a", "b"] == [first, *(one.offer.id for one in walk)]


def test_a_winner_is_found_without_looking_at_the_others():
    sizes = [(1000 * (1 + at % 16), 1024 * (1 + at % 13)) for at in range(5000)]
    index = filled(*(offer(f"o{at}", cpu=c, mem=m, machine=at) for at, (c, m) in enumerate(sizes)))
    before = index.tally.looked
    found = index.cheapest(question(cpu=15_500, mem=12_000))

    assert (16_000, 1) == (found.offer.resources.cpu_millis, index.tally.looked - before)


def test_nothing_large_enough_is_known_without_looking_at_any():
    index = filled(*(offer(f"o{at}", cpu=1000, mem=1024 * (1 + at % 13), machine=at) for at in range(5000)))

    assert (None, 0) == (index.cheapest(question(cpu=1001)), index.tally.looked)


def test_offers_of_very_many_sizes_cost_few_looks():
    index = filled(*(offer(f"o{at}", cpu=1 + at, mem=1 + at, machine=at) for at in range(20_000)))
    found = index.cheapest(question(cpu=12_345, mem=7))

    assert 12_344 == found.offer.cost.units.machine
    assert index.tally.looked <= 20_000 // (MAX_STEPS - 2)


def test_a_price_that_keeps_the_order_builds_no_grid():
    index = filled(offer("a", cpu=2000, machine=1), offer("b", cpu=4000, machine=2))
    before = index.tally.grids
    newer = index.replaced(
        BACKENDS[0], [offer("a", cpu=2000, machine=10, observed=9), offer("b", cpu=4000, machine=20, observed=9)]
    )

    assert before == newer.tally.grids
    assert 10 == newer.cheapest(question()).offer.cost.units.machine


def test_a_change_builds_only_the_lane_that_it_touches():
    offers = [offer(f"{region}-{at}", region=region, machine=at) for region in ("eu", "us", "asia") for at in range(5)]
    index = filled(*offers)
    before = index.tally.grids
    index.replaced(BACKENDS[0], [*offers, offer("new", region="us", cpu=9000, machine=3)])

    assert before + 1 == index.tally.grids


def test_the_offers_of_one_backend_can_be_listed():
    index = filled(offer("a", "rack"), offer("b", "cloud"))

    assert ["b"] == [one.id for one in index.offers(BACKENDS[1])]

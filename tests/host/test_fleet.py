import re
from typing import Any

import anyio
import pytest
from attrs import evolve

from compute_bridge.host.bench import LIMIT_MS, BenchBook
from compute_bridge.host.fleet import Fleet
from compute_bridge.host.offer_index import RouteQuestion
from compute_bridge.model.ids import BackendName, OfferId
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import (
    Capability,
    NetworkPolicy,
    Posture,
    Region,
    Requirements,
    Resources,
    Zone,
)
from compute_bridge.model.units import HOUR_MS, Milliseconds, NanosPerHour, UtcMs
from compute_bridge.ports.backend import Backend, Offer
from compute_bridge.ports.errors import (
    CredentialsError,
    NetworkError,
    NoCapacityError,
    Scope,
    ThrottledError,
    UnavailableError,
)
from compute_bridge.ports.strategy import Preference
from compute_bridge.testing.clock import VirtualClock

IMAGE = ImageRef("oci@sha256:" + "ab" * 32)
NOW = VirtualClock().utc_ms()
SMALL = Resources(1000, 1024)
NEEDS = Requirements(SMALL, Milliseconds(HOUR_MS))
QUESTION = RouteQuestion(NEEDS, IMAGE, Region("eu"), Posture.NONE)


def offer(name="small", backend="rack", **more):
    base = Offer(
        id=OfferId(name),
        backend=BackendName(backend),
        region=Region("eu"),
        zone=Zone("a"),
        shape="small",
        resources=Resources(4000, 8192, 40),
        posture=Posture.NONE,
        networks=(NetworkPolicy.ISOLATED,),
        cost=CostBasis("EUR", UnitNanos(machine=NanosPerHour(1000)), UtcMs(NOW), "test"),
    )
    return evolve(base, **more)


class Teller(Backend):
    """A backend that says what a test tells it to say, and makes nothing."""

    def __init__(self, name="rack", answer=(), declared=None):
        self._name = name
        self.answer = answer
        self.declared = (offer(backend=name).capability,) if declared is None else declared
        self.asked = 0

    @property
    def name(self):
        return BackendName(self._name)

    def capabilities(self):
        if isinstance(self.declared, Exception):
            raise self.declared
        return self.declared

    def can_satisfy(self, needs):
        return any(one.serves(needs) for one in self.declared)

    async def offers(self):
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def provision(self, order):
        raise NoCapacityError("a teller makes nothing")

    async def find(self, token):
        return None

    async def list_owned(self):
        return ()

    async def watch_until_exit(self, instance):
        await anyio.sleep_forever()

    async def usage(self, instance):
        raise UnavailableError("a teller has nothing")

    async def terminate(self, instance):
        return


@pytest.fixture
def clock():
    return VirtualClock()


def fleet_of(clock, *backends):
    return Fleet(backends, clock, currency="EUR")


def candidates(fleet, preference=Preference.BOOT_ORDER, question=QUESTION):
    return [f"{one.offer.backend}/{one.offer.id}" for one in fleet.candidates(question, preference)]


# --- backends and capabilities --------------------------------------------------------------------


def test_two_backends_of_one_name_are_refused(clock):
    with pytest.raises(ValueError, match="rack, rack: each needs a name of its own"):
        fleet_of(clock, Teller(), Teller())


def test_an_unknown_backend_is_named_beside_those_that_are_open(clock):
    with pytest.raises(LookupError, match=r"'cloud' is not open; open are rack"):
        fleet_of(clock, Teller()).backend(BackendName("cloud"))


def test_backends_keep_boot_order(clock):
    fleet = fleet_of(clock, Teller("zeta"), Teller("alpha"))

    assert ["zeta", "alpha"] == [one.name for one in fleet.backends]


def capability(region="eu", cpu=1000, **more):
    return Capability(Region(region), Posture.NONE, Resources(cpu, 1024), (NetworkPolicy.ISOLATED,), **more)


def test_capabilities_are_a_union_in_one_order(clock):
    one, other = Teller("one", declared=(capability("us"), capability("eu"))), Teller("two", declared=(capability(),))

    assert fleet_of(clock, one, other).capabilities() == fleet_of(clock, other, one).capabilities()
    assert (capability("eu"), capability("us")) == fleet_of(clock, one, other).capabilities()


def test_a_capability_within_another_adds_nothing(clock):
    wider = evolve(capability(cpu=2000), networks=(NetworkPolicy.EGRESS, NetworkPolicy.ISOLATED))
    fleet = fleet_of(clock, Teller(declared=(capability(), wider, capability(max_duration_ms=1))))

    assert (wider,) == fleet.capabilities()


@pytest.mark.parametrize(
    "declared", [[capability()], ("eu",), None, RuntimeError("sdk")], ids=["list", "text", "none", "error"]
)
def test_a_backend_that_declares_nonsense_is_left_out_and_benched(clock, declared):
    teller = Teller("odd")
    teller.declared = declared
    fleet = fleet_of(clock, teller, Teller(declared=(capability(),)))

    assert (capability(),) == fleet.capabilities()
    assert [("odd", Scope.ACCOUNT)] == [(one.backend, one.scope) for one in fleet.bench_state()]


# --- offers ---------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_refresh_asks_every_backend(clock):
    fleet = fleet_of(clock, Teller("rack", (offer(),)), Teller("cloud", (offer("big", "cloud"),)))
    results = await fleet.refresh()

    assert [("rack", 1, 0, None), ("cloud", 1, 0, None)] == [
        (one.backend, one.offers, one.age_ms, one.reason) for one in results
    ]
    assert ["rack/small", "cloud/big"] == candidates(fleet)


@pytest.mark.anyio
async def test_refresh_of_one_backend_asks_no_other(clock):
    rack, cloud = Teller("rack"), Teller("cloud")
    await fleet_of(clock, rack, cloud).refresh(BackendName("cloud"))

    assert (0, 1) == (rack.asked, cloud.asked)


@pytest.mark.anyio
@pytest.mark.parametrize("error", [UnavailableError("down"), ThrottledError("wait")], ids=repr)
async def test_a_backend_that_does_not_answer_keeps_its_last_offers_and_their_age_is_told(clock, error):
    teller = Teller(answer=(offer(),))
    fleet = fleet_of(clock, teller)
    await fleet.refresh()
    teller.answer = error
    await clock.advance(5000)
    (told,) = await fleet.refresh()

    assert (1, 5000) == (told.offers, told.age_ms)
    assert ["rack/small"] == candidates(fleet)


class Mute(Teller):
    async def offers(self):
        await anyio.sleep_forever()


@pytest.mark.anyio
async def test_a_backend_that_hangs_is_given_up_in_time_and_holds_up_no_other(clock):
    fleet = Fleet([Mute(), Teller("cloud", (offer("a", "cloud"),))], clock, currency="EUR", answer_s=0.02)
    told = await fleet.refresh()

    assert [Reason.UNAVAILABLE, None] == [one.reason for one in told]
    assert ["cloud/a"] == candidates(fleet)


@pytest.mark.anyio
async def test_a_backend_that_never_answered_has_offers_of_no_age(clock):
    (told,) = await fleet_of(clock, Teller(answer=UnavailableError("down"))).refresh()

    assert (0, -1, Reason.UNAVAILABLE) == (told.offers, told.age_ms, told.reason)


@pytest.mark.anyio
async def test_refused_credentials_bench_the_backend_until_it_answers_again(clock):
    teller = Teller(answer=(offer(),))
    fleet = fleet_of(clock, teller)
    await fleet.refresh()
    teller.answer = CredentialsError("backend rack: key refused")
    await fleet.refresh()
    benched = candidates(fleet), fleet.capabilities()
    teller.answer = (offer(),)
    await fleet.refresh()

    assert ([], ()) == benched
    assert ["rack/small"] == candidates(fleet)


def doctored(**changes):
    changed = offer()
    for name, value in changes.items():
        object.__setattr__(changed, name, value)
    return changed


NO_UNITS: Any = 5
WRONG = {
    "a list": ([offer()], "offers are a list"),
    "none": (None, "offers are a NoneType"),
    "text": (("small",), r"offers\[0\] is a str"),
    "another backend's": ((offer(backend="cloud"),), "'small' names backend 'cloud'"),
    "one id twice": ((offer(), offer(shape="other")), "'small' is there twice"),
    "another currency": (
        (offer(cost=CostBasis("USD", UnitNanos(), UtcMs(1), "x")),),
        "costs USD, the market settles in EUR",
    ),
    "no resources": ((doctored(resources=None),), "'small': resources is no Resources"),
    "no cost": ((doctored(cost=3),), "'small': cost is no CostBasis"),
    "no units": ((offer(cost=CostBasis("EUR", NO_UNITS, UtcMs(1), "x")),), "'small': the cost has no UnitNanos"),
    "no posture": ((doctored(posture="tdx?"),), "'small': posture is no Posture"),
    "a list of networks": ((doctored(networks=[NetworkPolicy.EGRESS]),), "'small': networks is no tuple"),
    "no network": ((offer(networks=()),), "'small' is no capability: networks"),
    "an SDK's error": (RuntimeError("secret-key-123"), "offers raised RuntimeError"),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("answer", "words"), WRONG.values(), ids=WRONG.keys())
async def test_a_wrong_answer_is_named_and_benches_the_backend(clock, answer, words):
    fleet = fleet_of(clock, Teller(answer=answer))
    (told,) = await fleet.refresh()
    (bench,) = fleet.bench_state()

    assert (Scope.ACCOUNT, "") == (bench.scope, bench.place)
    assert re.match(f"backend rack: .*{words}", told.detail)
    assert "secret" not in told.detail


@pytest.mark.anyio
@pytest.mark.parametrize("wrong", [[offer()], RuntimeError("bug")], ids=["list", "error"])
async def test_a_right_answer_after_a_wrong_one_lifts_the_bench(clock, wrong):
    teller = Teller(answer=wrong)
    fleet = fleet_of(clock, teller)
    await fleet.refresh()
    teller.answer = (offer(),)
    await fleet.refresh()

    assert () == fleet.bench_state()


@pytest.mark.anyio
@pytest.mark.parametrize("reason", [Reason.PLUGIN_RESULT, Reason.BACKEND_FAULT, Reason.QUOTA])
async def test_a_right_answer_mends_no_faulty_provision(clock, reason):
    fleet = fleet_of(clock, Teller(answer=(offer(),)))
    fleet.bench(offer(), Scope.ACCOUNT, reason=reason, detail="another machine than was ordered")
    await fleet.refresh()

    assert [reason] == [one.reason for one in fleet.bench_state()]


@pytest.mark.anyio
async def test_a_wrong_answer_leaves_the_last_offers_unused_but_known(clock):
    teller = Teller(answer=(offer(),))
    fleet = fleet_of(clock, teller)
    await fleet.refresh()
    teller.answer = [offer()]
    await fleet.refresh()

    assert ([], 1) == (candidates(fleet), len(fleet.offers()))


@pytest.mark.anyio
async def test_a_catalogue_is_indexed_off_the_event_loop(clock):
    catalogue = tuple(offer(f"o{at}", cost=offer().cost) for at in range(1500))
    fleet = fleet_of(clock, Teller(answer=catalogue))
    await fleet.refresh()

    assert 1500 == len(candidates(fleet))


@pytest.mark.anyio
async def test_refreshes_at_once_lose_no_backend(clock):
    names = [f"b{at}" for at in range(8)]
    tellers = [Teller(name, tuple(offer(f"o{at}", name) for at in range(1100))) for name in names]
    fleet = fleet_of(clock, *tellers)
    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(fleet.refresh, name)

    assert 8 * 1100 == len(fleet.offers())


# --- benches --------------------------------------------------------------------------------------

FOUR = (
    offer("near-1", shape="s"),
    offer("near-2", shape="t"),
    offer("far", zone=Zone("b")),
    offer("us", region=Region("us")),
)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scope", "left"),
    [
        (Scope.OFFER, {"near-2", "far", "us"}),
        (Scope.ZONE, {"far", "us"}),
        (Scope.REGION, {"us"}),
        (Scope.ACCOUNT, set()),
    ],
)
async def test_a_bench_reaches_as_far_as_its_scope(clock, scope, left):
    fleet = fleet_of(clock, Teller(answer=FOUR), Teller("cloud", (offer("near-1", "cloud"),)))
    await fleet.refresh()
    fleet.bench(FOUR[0], scope, reason=Reason.NO_CAPACITY, detail="none free")
    everywhere = [candidates(fleet, question=evolve(QUESTION, region=Region(region))) for region in ("eu", "us")]

    assert {f"rack/{name}" for name in left} | {"cloud/near-1"} == {one for some in everywhere for one in some}
    assert {one for one in FOUR if fleet.bench_of(one) is None} == {one for one in FOUR if one.id in left}


@pytest.mark.anyio
async def test_a_served_offer_is_absolved_of_every_bench(clock):
    fleet = fleet_of(clock, Teller(answer=FOUR))
    await fleet.refresh()
    for scope in Scope:
        fleet.bench(FOUR[0], scope, reason=Reason.NO_CAPACITY, detail="none free")
    fleet.absolve(FOUR[0])

    assert () == fleet.bench_state()


def bench(book, reason=Reason.NO_CAPACITY):
    return book.bench(BackendName("rack"), Scope.REGION, "eu", reason=reason, detail="full")


@pytest.mark.anyio
async def test_a_bench_ends(clock):
    book = BenchBook(clock)
    bench(book)
    await clock.advance(14_999)
    before = book.state()
    await clock.advance(1)

    assert (1, ()) == (len(before), book.state())


@pytest.mark.anyio
async def test_failures_in_a_row_double_the_bench_up_to_the_limit(clock):
    book, lengths = BenchBook(clock), []
    for _ in range(12):
        one = bench(book)
        lengths.append(one.until_ms - clock.monotonic_ms())
        await clock.advance(lengths[-1] + 1)

    assert [15_000, 30_000, 60_000] == lengths[:3]
    assert LIMIT_MS == lengths[-1] == max(lengths)


@pytest.mark.anyio
async def test_leases_that_fail_together_bench_once(clock):
    book = BenchBook(clock)

    assert bench(book) == bench(book) == bench(book)


@pytest.mark.anyio
async def test_a_failure_long_after_starts_anew(clock):
    book = BenchBook(clock)
    bench(book)
    await clock.advance(30_001)

    assert 1 == bench(book).times


@pytest.mark.anyio
async def test_what_the_operator_must_mend_is_benched_longer_than_what_passes(clock):
    book = BenchBook(clock)
    quota = book.bench(BackendName("rack"), Scope.ACCOUNT, "", reason=Reason.QUOTA, detail="used up")

    assert quota.until_ms > bench(book).until_ms


@pytest.mark.anyio
async def test_a_candidate_tells_how_often_in_a_row_it_was_benched_lately(clock):
    fleet = fleet_of(clock, Teller(answer=(offer(), offer("large", zone=Zone("b")))))
    await fleet.refresh()
    fleet.bench(offer(), Scope.ZONE, reason=Reason.NO_CAPACITY, detail="full")
    await clock.advance(15_000)
    told = {one.offer.id: one.benched for one in fleet.candidates(QUESTION, Preference.CHEAPEST)}

    assert {"small": 1, "large": 0} == told


# --- costs that cannot be sold on -----------------------------------------------------------------


@pytest.mark.anyio
async def test_an_offer_in_quarantine_is_no_candidate_and_is_named(clock):
    free = offer("free", cost=CostBasis("EUR", UnitNanos(), UtcMs(NOW), "test"))
    fleet = fleet_of(clock, Teller(answer=(offer(), free)))
    (told,) = await fleet.refresh()

    assert (["rack/small"], 1) == (candidates(fleet), told.offers)
    assert [("free", Reason.COST_ZERO)] == [(one.offer_id, one.reason) for one in fleet.quarantined(QUESTION)]


@pytest.mark.anyio
async def test_a_silent_backend_does_not_sell_on_yesterdays_cost(clock):
    teller = Teller(answer=(offer(),))
    fleet = fleet_of(clock, teller)
    await fleet.refresh()
    await clock.advance(86_400_000)
    drawn = candidates(fleet)
    teller.answer = UnavailableError("backend rack: away")
    await fleet.refresh()

    assert ([], ()) == (drawn, fleet.offers())
    assert [Reason.COST_STALE] == [one.reason for one in fleet.costs.quarantined]


@pytest.mark.anyio
async def test_a_backend_that_raises_over_a_negative_cost_is_quarantined_whole(clock):
    teller = Teller(answer=(offer(),))
    fleet = fleet_of(clock, teller)
    await fleet.refresh()
    with pytest.raises(ValueError, match="negative") as raised:
        UnitNanos(vcpu=NanosPerHour(-1))
    teller.answer = raised.value
    await fleet.refresh()
    (held,) = fleet.costs.quarantined

    assert ((), Reason.COST_NEGATIVE, "") == (fleet.offers(), held.reason, held.offer_id)


@pytest.mark.anyio
async def test_a_cost_of_a_class_of_its_own_benches_the_backend(clock):
    class Sly(CostBasis):
        pass

    fleet = fleet_of(clock, Teller(answer=(offer(cost=Sly("EUR", UnitNanos(), UtcMs(NOW), "test")),)))
    (told,) = await fleet.refresh()

    assert (Reason.PLUGIN_RESULT, True) == (told.reason, "its cost is of a class of its own" in told.detail)


@pytest.mark.anyio
async def test_an_error_of_another_port_is_a_fault_of_the_backend_and_stops_nothing() -> None:
    teller = Teller(answer=NetworkError("this is no error of a backend"))
    fleet = Fleet([teller], VirtualClock(), currency="EUR")
    (refreshed,) = await fleet.refresh()

    assert Reason.BACKEND_FAULT == refreshed.reason
    assert "raised NetworkError, which its port does not name" in refreshed.detail

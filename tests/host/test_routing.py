from typing import Any

import anyio
import pytest
from attrs import evolve

from compute_bridge.host.attempt import AttemptLimits
from compute_bridge.host.fleet import Fleet
from compute_bridge.host.lease_state import MAX_BODY, routed
from compute_bridge.host.routing import PlacementError, Router, RouteStep
from compute_bridge.model.boot import BelowCost
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import (
    BackendName,
    BandName,
    Fingerprint,
    GrantId,
    InstanceId,
    OfferId,
    ProviderId,
    PublicKey,
    RequestId,
)
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import NetworkPolicy, Posture, Region, Requirements, Resources, Zone
from compute_bridge.model.units import HOUR_MS, BasisPoints, MicrosPerHour, Milliseconds, NanosPerHour, Tick, UtcMs
from compute_bridge.ports.backend import Backend, HostKeySource, Instance, Offer
from compute_bridge.ports.errors import (
    BackendError,
    CredentialsError,
    JournalError,
    NoCapacityError,
    NotYetTerminatedError,
    QuotaError,
    Scope,
    StopFailoverError,
    ThrottledError,
    UnavailableError,
    UnservableError,
)
from compute_bridge.ports.remains import Remains, SupportsRemains
from compute_bridge.ports.strategy import Preference, RoutingPolicy
from compute_bridge.testing.clock import VirtualClock
from compute_bridge.testing.orders import make_order
from compute_bridge.wire import codec
from compute_bridge.wire.tokens import order_token

NOW = VirtualClock().utc_ms()
IMAGE = ImageRef("vm:plain")
NEEDS = Requirements(Resources(1000, 1024), Milliseconds(HOUR_MS))
GRANT = ComputeGrant(
    id=GrantId(b"g" * 32),
    request_id=RequestId(b"r" * 32),
    request_key=PublicKey(b"k" * 32),
    provider_id=ProviderId(b"p" * 32),
    card_hash=Fingerprint(b"c" * 32),
    round=1,
    requirements=NEEDS,
    region=Region("eu"),
    posture=Posture.NONE,
    band=BandName("small"),
    manifest_commitment=b"m" * 32,
    envelope_commitment=b"e" * 32,
    bearer_pointer=b"b" * 32,
    rate=MicrosPerHour(1000),
    currency="EUR",
    valid_from=Tick(1),
    valid_to=Tick(9),
    duration_ms=Milliseconds(HOUR_MS),
)


def offer(name, backend="rack", micros=100, **more):
    base = Offer(
        id=OfferId(name),
        backend=BackendName(backend),
        region=Region("eu"),
        zone=Zone("a"),
        shape=name,
        resources=Resources(4000, 8192, 40),
        posture=Posture.NONE,
        networks=(NetworkPolicy.ISOLATED,),
        cost=CostBasis("EUR", UnitNanos(machine=NanosPerHour(micros * 1000)), UtcMs(NOW), "test"),
        images=("plain",),
    )
    return evolve(base, **more)


def instance_of(order, **changes):
    made = Instance(
        id=InstanceId(f"i-{order.token.hex()[:8]}"),
        token=order.token,
        ownership=order.ownership,
        offer=order.offer.id,
        host="192.0.2.7",
        port=22,
        user=order.access.user,
        host_key=order.access.host_key,
        host_key_source=HostKeySource.INJECTED,
        started_at=UtcMs(1),
        ends_at=order.ends_at,
    )
    return evolve(made, **changes)


class Scripted(Backend):
    """A backend whose calls go as a test writes: each entry is raised, called with the order, or returned.

    Past the end of the script every call does what it should. ``there`` is the truth about its machines.
    """

    def __init__(self, name="rack", offers=None, provision=(), find=(), terminate=(), window_ms=0):
        self._name = BackendName(name)
        self._offers = (offer(f"{name}-1", name),) if offers is None else offers
        self.script = {"provision": list(provision), "find": list(find), "terminate": list(terminate)}
        self.window_ms = window_ms
        self.there = {}
        self.tokens = []
        self.calls = []

    @property
    def name(self):
        return self._name

    @property
    def consistency_window_ms(self):
        return Milliseconds(self.window_ms)

    def capabilities(self):
        return tuple(one.capability for one in self._offers)

    def can_satisfy(self, needs):
        return any(one.serves(needs) for one in self._offers)

    async def offers(self):
        return self._offers

    async def provision(self, order):
        self.tokens.append(order.token)
        return await self._play("provision", order, self.make)

    async def find(self, token):
        return await self._play("find", token, self.there.get)

    async def list_owned(self):
        return tuple(self.there.values())

    async def watch_until_exit(self, instance):
        await anyio.sleep_forever()

    async def usage(self, instance):
        raise UnavailableError("not metered")

    async def terminate(self, instance):
        await self._play("terminate", instance, self.end)

    def make(self, order, **changes):
        made = instance_of(order, **changes)
        self.there[order.token] = made
        return made

    def end(self, instance):
        self.there = {token: one for token, one in self.there.items() if one.id != instance}

    async def _play(self, call, argument, right):
        self.calls.append(call)
        await anyio.lowlevel.checkpoint()
        line = self.script[call].pop(0) if self.script[call] else right
        if isinstance(line, BaseException):
            raise line
        return line(argument) if callable(line) else line


class Prefer(RoutingPolicy):
    def __init__(self, preference=Preference.BOOT_ORDER, rank=tuple):
        self._preference = preference
        self._rank = rank

    @property
    def preference(self):
        return self._preference

    def rank(self, candidates):
        return self._rank(candidates)


class Journal:
    """What the lease would journal of a route."""

    def __init__(self):
        self.events = []

    async def intend(self, order, number):
        self.events.append(("intent", str(order.offer.id), number))

    async def failed(self, order, reason, detail):
        self.events.append(("failed", str(order.offer.id), reason))


class Rig:
    def __init__(self, *backends, policy=None, clock=None, **router):
        self.clock = clock or VirtualClock()
        self.fleet = Fleet(backends, self.clock, currency="EUR")
        self.journal = Journal()
        router.setdefault("provider_fee", BasisPoints(0))
        self.router = Router(self.fleet, policy or Prefer(), self.clock, **router)

    def order(self, one, number):
        token = order_token(GRANT.id, one.backend, one.region, one.zone, one.shape, attempt=number)
        return make_order(one, token, needs=NEEDS, image=IMAGE, user="guest", now=UtcMs(self.clock.utc_ms()))

    async def place(self, grant=GRANT, *, image=IMAGE, **more):
        await self.fleet.refresh()
        more.setdefault("order_for", self.order)
        return await self.router.place(grant, image, intend=self.journal.intend, failed=self.journal.failed, **more)

    async def place_in(self, ms, **more):
        """Place while the clock moves on by ``ms``."""
        placed = []

        async def run():
            placed.append(await self.place(**more))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await self.clock.advance(ms)
            tasks.cancel_scope.cancel()
        return placed[0]

    async def refused(self, **more):
        with pytest.raises(PlacementError) as caught:
            await self.place(**more)
        return caught.value


def reasons(steps):
    return [(step.offer_id, step.reason) for step in steps]


pytestmark = pytest.mark.anyio


# --- the straight path ----------------------------------------------------------------------------


async def test_a_grant_is_placed_on_the_first_backend_of_the_boot_file():
    rig = Rig(Scripted("rack"), Scripted("cloud", (offer("cloud-1", "cloud", micros=1),)))
    placement = await rig.place()

    assert (OfferId("rack-1"), 1) == (placement.instance.offer, len(placement.steps))
    assert [("intent", "rack-1", 0)] == rig.journal.events


async def test_a_policy_may_want_the_cheapest():
    cloud = Scripted("cloud", (offer("cloud-1", "cloud", micros=1),))
    placement = await Rig(Scripted("rack"), cloud, policy=Prefer(Preference.CHEAPEST)).place()

    assert "cloud-1" == placement.instance.offer


async def test_a_policy_may_rearrange_the_candidates():
    rack = Scripted("rack", (offer("a"), offer("b"), offer("c")))
    placement = await Rig(rack, policy=Prefer(rank=lambda them: them[::-1])).place()

    assert "c" == placement.instance.offer


async def test_the_lines_begin_with_the_reason_code_and_a_space():
    placement = await Rig(Scripted("rack")).place()

    assert ("routed rack/rack-1: costs 100 micros/h, cleared at 1000",) == placement.lines


async def test_a_grant_in_another_currency_finds_no_offer():
    error = await Rig(Scripted("rack")).refused(grant=evolve(GRANT, currency="USD"))

    assert Reason.ABOVE_CLEARED_RATE == error.reason
    assert "costs EUR, the grant pays USD" in error.lines[0]


async def test_a_route_sees_at_most_64_candidates_at_once_and_all_in_the_end():
    rack = Scripted("rack", tuple(offer(f"o{at:03}") for at in range(70)), provision=[NoCapacityError("full")] * 69)
    seen = []

    def look(candidates):
        seen.append(len(candidates))
        return candidates

    placement = await Rig(rack, policy=Prefer(rank=look), max_attempts=100).place()

    assert ([64, 6], "o069") == (seen, placement.instance.offer)


# --- failover -------------------------------------------------------------------------------------


async def test_a_definite_failure_goes_on_with_a_new_number_and_so_a_new_token():
    rack = Scripted("rack", provision=[NoCapacityError("full")])
    cloud = Scripted("cloud")
    rig = Rig(rack, cloud)
    placement = await rig.place()

    assert [
        ("intent", "rack-1", 0),
        ("failed", "rack-1", Reason.NO_CAPACITY),
        ("intent", "cloud-1", 1),
    ] == rig.journal.events
    assert [("rack-1", Reason.NO_CAPACITY), ("cloud-1", Reason.ROUTED)] == reasons(placement.steps)
    assert rack.tokens[0] != cloud.tokens[0]


THREE = (offer("a1", zone=Zone("a")), offer("a2", zone=Zone("a")), offer("b1", zone=Zone("b")))


@pytest.mark.parametrize(
    ("error", "tried"),
    [
        (NoCapacityError("full"), ["a1", "a2"]),
        (NoCapacityError("full", scope=Scope.ZONE), ["a1", "b1"]),
        (NoCapacityError("full", scope=Scope.REGION), ["a1", "cloud-1"]),
        (QuotaError("used up"), ["a1", "cloud-1"]),
        (QuotaError("used up", scope=Scope.ACCOUNT), ["a1", "cloud-1"]),
        (UnservableError("no image"), ["a1", "a2"]),
        (CredentialsError("refused"), ["a1", "cloud-1"]),
        (RuntimeError("a bug"), ["a1", "cloud-1"]),
        (BackendError("of no class"), ["a1", "cloud-1"]),
        (NotYetTerminatedError("out of place"), ["a1", "cloud-1"]),
    ],
    ids=lambda value: value.__class__.__name__ if isinstance(value, Exception) else None,
)
async def test_the_next_offer_lies_outside_the_errors_scope(error, tried):
    rig = Rig(Scripted("rack", THREE, provision=[error]), Scripted("cloud"))
    await rig.place()

    assert tried == [name for kind, name, _ in rig.journal.events if kind == "intent"]


async def test_an_offer_benched_during_the_route_is_passed_over_with_its_reason():
    rack = Scripted("rack", THREE, provision=[NoCapacityError("full", scope=Scope.ZONE)])
    placement = await Rig(rack).place()

    assert [("a1", Reason.NO_CAPACITY), ("a2", Reason.BENCHED), ("b1", Reason.ROUTED)] == reasons(placement.steps)


async def test_the_next_grant_finds_the_scope_benched():
    rig = Rig(Scripted("rack", THREE, provision=[QuotaError("used up")]), Scripted("cloud"))
    await rig.place()

    assert "cloud-1" == (await rig.place()).instance.offer


async def test_a_served_offer_lifts_its_bench():
    rig = Rig(Scripted("rack"))
    await rig.fleet.refresh()
    one = offer("rack-1")
    order = rig.order(one, 0)
    rig.fleet.bench(one, Scope.OFFER, reason=Reason.NO_CAPACITY, detail="full")
    await rig.place(resume=(order, 0))

    assert () == rig.fleet.bench_state()


async def test_no_more_attempts_are_made_than_allowed():
    rack = Scripted("rack", tuple(offer(f"o{at}") for at in range(40)), provision=[NoCapacityError("full")] * 40)
    error = await Rig(rack).refused()

    assert (25, Reason.NO_CAPACITY) == (error.attempts, error.reason)


async def test_an_unknown_scope_reaches_the_offer_alone():
    planet: Any = "planet"
    rig = Rig(Scripted("rack", THREE, provision=[NoCapacityError("full", scope=planet)]))
    await rig.place()

    assert ["a1", "a2"] == [name for kind, name, _ in rig.journal.events if kind == "intent"]


# --- why not --------------------------------------------------------------------------------------


async def test_a_fleet_without_a_fitting_offer_says_so():
    error = await Rig(Scripted("rack", ())).refused()

    assert (Reason.NO_OFFER, 0) == (error.reason, error.attempts)


async def test_an_image_that_no_offer_runs_finds_no_offer():
    error = await Rig(Scripted("rack")).refused(image=ImageRef("vm:other"))

    assert Reason.NO_OFFER == error.reason


async def test_a_benched_fleet_says_which_bench():
    rig = Rig(Scripted("rack"))
    rig.fleet.bench(offer("rack-1"), Scope.REGION, reason=Reason.QUOTA, detail="backend rack: quota used up")
    error = await rig.refused()

    assert (Reason.BENCHED, ("benched rack/eu: backend rack: quota used up",)) == (error.reason, error.lines)


async def test_an_offer_above_the_cleared_rate_is_not_used():
    error = await Rig(Scripted("rack", (offer("dear", micros=1001), offer("dearer", micros=2000)))).refused()

    assert Reason.ABOVE_CLEARED_RATE == error.reason
    assert 1 == len(error.lines)
    assert error.lines[0].startswith(
        "above-cleared-rate rack/dear: backend rack: offer dear costs 1001 micros/h, the grant clears 1000"
    )


async def test_the_markets_fee_is_taken_off_before_the_cost_is_compared():
    rack = Scripted("rack", (offer("a", micros=901),))

    assert Reason.ABOVE_CLEARED_RATE == (await Rig(rack, provider_fee=BasisPoints(1000)).refused()).reason
    assert (await Rig(rack, provider_fee=BasisPoints(990)).place()).instance.offer == "a"


@pytest.mark.parametrize("preference", Preference)
async def test_a_dear_offer_does_not_hide_a_cheaper_one(preference):
    rack, cloud = Scripted("rack", (offer("dear", micros=1001),)), Scripted("cloud")

    assert "cloud-1" == (await Rig(rack, cloud, policy=Prefer(preference)).place()).instance.offer


async def test_the_operator_may_allow_what_is_below_cost_and_the_step_says_it():
    rig = Rig(Scripted("rack", (offer("dear", micros=1001),)), below_cost=BelowCost.ALLOW)

    assert (await rig.place()).steps[0].detail.endswith("below cost, as the boot file allows")


async def test_explain_tells_of_every_offer():
    rack = Scripted("rack", (offer("a"), offer("b", micros=200), offer("us", region=Region("us"))))
    rig = Rig(rack)
    await rig.fleet.refresh()
    verdicts = [(one.offer_id, one.reason) for one in rig.router.explain(GRANT, IMAGE)]

    assert [("a", Reason.ROUTED), ("b", Reason.OUTBID), ("us", Reason.REGION)] == verdicts


# --- a policy that is wrong -----------------------------------------------------------------------


def broken(_candidates):
    raise RuntimeError("division by zero")


@pytest.mark.parametrize(
    ("rank", "words"),
    [
        (lambda them: them[1:], "dropped 1"),
        (lambda them: (*them, them[0]), "added or doubled"),
        (lambda them: (them[0], them[0]), "added or doubled"),
        (lambda them: (evolve(them[0], order=9), them[1]), "added or doubled"),
        (lambda them: [one.offer for one in them], "added or doubled"),
        (lambda them: None, "raised TypeError"),
        (broken, "raised RuntimeError: division by zero"),
    ],
)
async def test_a_wrong_rank_refuses_the_grant_and_names_the_policy(rank, words):
    error = await Rig(Scripted("rack", (offer("a"), offer("b"))), policy=Prefer(rank=rank)).refused()

    assert Reason.PLUGIN_RESULT == error.reason
    assert f"routing policy Prefer: rank {words}" in str(error) or f"routing policy Prefer {words}" in str(error)


async def test_a_wrong_preference_refuses_the_grant():
    assert Reason.PLUGIN_RESULT == (await Rig(Scripted("rack"), policy=Prefer("whatever")).refused()).reason


# --- silence, throttling, credentials -------------------------------------------------------------


async def test_a_lost_answer_is_asked_for_again_with_the_same_token():
    def lose(order):
        rack.make(order)
        raise UnavailableError("connection reset")

    rack = Scripted("rack", provision=[lose])
    placement = await Rig(rack).place_in(500)

    assert (2, 1, 1) == (len(rack.tokens), len(set(rack.tokens)), len(rack.there))
    assert placement.order.token == rack.tokens[0]


async def test_when_only_find_answers_its_machine_is_not_used_before_a_provision_has_seen_its_key():
    rack, cloud = Scripted("rack", provision=[UnavailableError("down")] * 9), Scripted("cloud")
    rig = Rig(rack, cloud, limits=AttemptLimits(first_pause_ms=0))
    rack.make(rig.order(offer("rack-1"), 0))
    with pytest.raises(UnavailableError):
        await rig.place()

    assert (5, [], 1) == (len(rack.tokens), cloud.tokens, len(rack.there))


@pytest.mark.parametrize("find", [[], [UnavailableError("down")], [CredentialsError("no")], [RuntimeError("bug")]])
async def test_silence_to_the_end_concludes_nothing(find):
    rack = Scripted("rack", provision=[UnavailableError("down")] * 9, find=find)
    rig = Rig(rack, Scripted("cloud"), limits=AttemptLimits(retries=0))
    with pytest.raises(UnavailableError) as caught:
        await rig.place()

    assert [("intent", "rack-1", 0)] == rig.journal.events
    assert ["unavailable rack/rack-1"] == [note.partition(":")[0] for note in caught.value.__notes__]
    assert [Reason.UNAVAILABLE] == [one.reason for one in rig.fleet.bench_state()]


async def test_a_throttled_attempt_waits_as_told_with_the_same_token():
    rack = Scripted("rack", provision=[ThrottledError("slow down", retry_after_s=7)])
    rig = Rig(rack)
    placement = await rig.place_in(7000)

    assert (placement.order.token, 2, 7000) == (rack.tokens[0], len(rack.tokens), rig.clock.monotonic_ms())


@pytest.mark.parametrize("told", [float("nan"), float("inf"), -1, 1e9, None, "soon"], ids=repr)
async def test_no_backend_can_make_us_wait_for_ever(told):
    rack = Scripted("rack", provision=[ThrottledError("slow down", retry_after_s=told)])

    assert "rack-1" == (await Rig(rack).place_in(60_000)).instance.offer


async def test_throttled_to_the_end_goes_to_the_next_backend_once_find_shows_nothing():
    rack = Scripted("rack", provision=[ThrottledError("no")] * 2)
    rig = Rig(rack, Scripted("cloud"), limits=AttemptLimits(throttle_waits=0))

    assert [("rack-1", Reason.THROTTLED), ("cloud-1", Reason.ROUTED)] == reasons((await rig.place()).steps)


@pytest.mark.parametrize("source", [HostKeySource.INJECTED, HostKeySource.ROTATED])
async def test_throttled_while_the_machine_is_there_it_waits_for_a_provision_that_sees_its_key(source):
    def refuse(order):
        rack.make(order, host_key=order.access.host_key_by(source), host_key_source=source)
        raise ThrottledError("no")

    rack, cloud = Scripted("rack", provision=[refuse]), Scripted("cloud")
    rig = Rig(rack, cloud, limits=AttemptLimits(throttle_waits=0))
    with pytest.raises(UnavailableError, match="is not known to show its own host key yet"):
        await rig.place()

    assert ([], 1) == (cloud.tokens, len(rack.there))


async def test_what_a_throttled_create_made_is_gone_though_the_next_call_is_refused():
    rack = Scripted("rack")
    rack.script["provision"] = [leave_behind(rack, ThrottledError("slow down")), NoCapacityError("full")]
    placement = await Rig(rack, Scripted("cloud")).place_in(100_000)

    assert ({}, "cloud-1") == (rack.there, placement.instance.offer)


@pytest.mark.parametrize("is_resumed", [False, True])
async def test_a_machine_that_is_being_ended_is_nobody_s(is_resumed):
    rack = Scripted("rack", terminate=[NotYetTerminatedError("going")] * 1000)
    rig = Rig(rack, Scripted("cloud"), limits=AttemptLimits(first_pause_ms=0, undo_s=0.05))
    rack.script["provision"] = [leave_behind(rack, UnavailableError("reset")), NoCapacityError("full")]
    resume = None
    if is_resumed:
        resume = rig.order(offer("rack-1"), 3), 3
        rack.make(resume[0])
        rack.script["provision"].pop(0)
    with pytest.raises(UnavailableError, match="may have been made before it was refused"):
        await rig.place(resume=resume)

    assert "failed" not in [event[0] for event in rig.journal.events]


class SilentAboutRemains(Scripted, SupportsRemains):
    """It tells its machines, and nothing of what remains."""

    async def list_remains(self):
        raise CredentialsError("may not list disks")


async def test_an_order_does_not_wait_for_a_backend_that_does_not_tell_what_remains():
    rack = SilentAboutRemains("rack", provision=[UnservableError("not that image")])
    rig = Rig(rack, Scripted("cloud"))
    placement = await rig.place(resume=(rig.order(offer("rack-1"), 3), 3))

    assert placement.order.token != rig.order(offer("rack-1"), 3).token


async def test_a_machine_whose_key_was_rotated_is_the_one_ordered():
    def make(order):
        return rack.make(order, host_key=order.access.rotation.host_key, host_key_source=HostKeySource.ROTATED)

    rack = Scripted("rack", provision=[make])
    placement = await Rig(rack, Scripted("cloud")).place()

    assert HostKeySource.ROTATED == placement.instance.host_key_source


async def test_refused_credentials_conclude_nothing_where_find_is_refused_too():
    rack = Scripted("rack", provision=[CredentialsError("no")], find=[CredentialsError("no")])
    rig = Rig(rack, Scripted("cloud"))
    with pytest.raises(UnavailableError, match="may or may not exist"):
        await rig.place()

    assert [("intent", "rack-1", 0)] == rig.journal.events


# --- going on after a restart ---------------------------------------------------------------------


async def test_an_interrupted_attempt_is_made_again_first_without_another_intent():
    rig = Rig(Scripted("rack"), Scripted("cloud"))
    order = rig.order(offer("cloud-1", "cloud"), 3)
    placement = await rig.place(resume=(order, 3))

    assert (order, []) == (placement.order, rig.journal.events)


async def test_after_an_interrupted_attempt_that_failed_numbers_count_on():
    rig = Rig(Scripted("rack"), Scripted("cloud", provision=[NoCapacityError("full")]))
    await rig.place(resume=(rig.order(offer("cloud-1", "cloud"), 3), 3))

    assert [("failed", "cloud-1", Reason.NO_CAPACITY), ("intent", "rack-1", 4)] == rig.journal.events


@pytest.mark.parametrize("error", [NoCapacityError("full"), QuotaError("no"), UnservableError("not that image")])
async def test_what_an_interrupted_attempt_made_is_gone_before_another_is_made(error):
    rack, cloud = Scripted("rack", provision=[error], window_ms=5000), Scripted("cloud")
    rig = Rig(rack, cloud)
    order = rig.order(offer("rack-1"), 3)
    rack.make(order)
    placement = await rig.place_in(20_000, resume=(order, 3))

    assert order.token not in rack.there
    assert placement.order.token != order.token


async def test_what_a_silent_create_made_is_gone_though_the_next_call_is_refused():
    rack = Scripted("rack")
    rack.script["provision"] = [leave_behind(rack, UnavailableError("reset")), UnservableError("not that image")]
    placement = await Rig(rack, Scripted("cloud")).place_in(10_000)

    assert ({}, "cloud-1") == (rack.there, placement.instance.offer)


async def test_a_refusal_tells_nothing_of_a_create_before_while_nobody_can_look():
    rack = Scripted("rack", find=[UnavailableError("down")] * 100)
    rack.script["provision"] = [leave_behind(rack, UnavailableError("reset")), NoCapacityError("full")]
    rig = Rig(rack, Scripted("cloud"), limits=AttemptLimits(first_pause_ms=0, undo_s=0.05))
    with pytest.raises(UnavailableError, match="may have been made before it was refused"):
        await rig.place()

    assert [("intent", "rack-1", 0)] == rig.journal.events


async def test_a_first_refusal_needs_no_look():
    rack = Scripted("rack", provision=[NoCapacityError("full")])
    await Rig(rack, Scripted("cloud")).place()

    assert ["provision"] == rack.calls


async def test_numbers_may_begin_after_those_that_failed_before():
    rig = Rig(Scripted("rack"))
    await rig.place(first_attempt=5)

    assert [("intent", "rack-1", 5)] == rig.journal.events


async def test_an_intent_that_cannot_be_journalled_makes_no_machine():
    async def intend(order, number):
        raise JournalError("full")

    rack = Scripted("rack")
    rig = Rig(rack)
    await rig.fleet.refresh()
    with pytest.raises(JournalError):
        await rig.router.place(GRANT, IMAGE, order_for=rig.order, intend=intend, failed=rig.journal.failed)

    assert [] == rack.tokens


async def test_an_order_for_another_offer_is_not_made():
    rack = Scripted("rack")
    rig = Rig(rack)
    with pytest.raises(ValueError, match="the order for offer rack-1 is for offer other"):
        await rig.place(order_for=lambda one, number: rig.order(offer("other"), number))

    assert [] == rack.tokens


# --- wrong results --------------------------------------------------------------------------------

BAD = {
    "token": {"token": b"t" * 32},
    "ownership": None,
    "offer": {"offer": "other"},
    "host_key": {"host_key": "ssh-ed25519 AAAAAAAAAAAAAAAAAAAA"},
    "injected key called rotated": {"host_key_source": HostKeySource.ROTATED},
    "key that we cannot know": {"host_key_source": HostKeySource.GUEST_ATTESTED},
    "option as host": {"host": "-oProxyCommand=x"},
    "command as host": {"host": "a;b"},
    "scoped address": {"host": "fe80::1%a;b"},
    "option as user": {"user": "-oProxyCommand=x"},
    "no time": {"started_at": UtcMs(2), "ends_at": UtcMs(2)},
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD.keys())
async def test_a_machine_that_is_not_the_one_ordered_is_ended_and_not_used(changes):
    def make(order):
        made = rack.make(order)
        wrong = {"ownership": evolve(order.ownership, mac=bytes(32))} if changes is None else changes
        return evolve(made, **wrong)

    rack = Scripted("rack", provision=[make])
    rig = Rig(rack, Scripted("cloud"))
    placement = await rig.place()

    assert [("rack-1", Reason.PLUGIN_RESULT), ("cloud-1", Reason.ROUTED)] == reasons(placement.steps)
    assert {} == rack.there


@pytest.mark.parametrize("made", [None, "i-1", ()], ids=repr)
async def test_what_is_no_instance_is_not_used(made):
    rig = Rig(Scripted("rack", provision=[lambda _order: made]), Scripted("cloud"))

    assert [("rack-1", Reason.PLUGIN_RESULT), ("cloud-1", Reason.ROUTED)] == reasons((await rig.place()).steps)


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7", "::1", "rack-7.example.org", "h"])
async def test_addresses_and_names_are_hosts(host):
    rack = Scripted("rack")
    rack.script["provision"] = [lambda order: rack.make(order, host=host)]

    assert host == (await Rig(rack).place()).instance.host


async def test_a_machine_that_started_after_its_end_by_a_clock_of_ours_that_is_behind_is_taken():
    rack = Scripted("rack")
    rack.script["provision"] = [lambda order: rack.make(order, started_at=UtcMs(order.ends_at + 3_600_000))]

    placement = await Rig(rack).place()

    assert [("rack-1", Reason.ROUTED)] == reasons(placement.steps)
    assert placement.instance.ends_at < placement.instance.started_at


async def test_another_leases_machine_returned_by_mistake_is_not_touched():
    rack = Scripted("rack")
    rig = Rig(rack, Scripted("cloud"))
    other = rack.make(rig.order(offer("rack-1"), 77))

    def mistake(order):
        rack.make(order)
        return other

    rack.script["provision"] = [mistake]
    await rig.place()

    assert [other] == list(rack.there.values())


OCI = ImageRef("oci@sha256:" + "ab" * 32)


@pytest.mark.parametrize(
    ("digest", "verifier", "reason"),
    [
        (bytes.fromhex("ab" * 32), "backend", Reason.ROUTED),
        (b"x" * 32, "backend", Reason.PLUGIN_RESULT),
        (b"x" * 32, "nobody", Reason.PLUGIN_RESULT),
        (b"", "backend", Reason.PLUGIN_RESULT),
        (b"", "nobody", Reason.ROUTED),
    ],
)
async def test_the_image_that_runs_is_the_one_ordered(digest, verifier, reason):
    rack = Scripted("rack", (offer("rack-1", image_verifier=verifier),))
    rack.script["provision"] = [lambda order: rack.make(order, image_digest=digest)]
    rig = Rig(rack, Scripted("cloud", (offer("cloud-1", "cloud", image_verifier="nobody"),)))
    placement = await rig.place(image=OCI, order_for=lambda one, number: evolve(rig.order(one, number), image=OCI))

    assert reason == placement.steps[0].reason


# --- faults and clean-up --------------------------------------------------------------------------


def leave_behind(rack, error):
    def make(order):
        rack.make(order)
        raise error

    return make


async def test_a_fault_is_cleaned_up_by_token_before_the_next_offer():
    rack = Scripted("rack")
    rack.script["provision"] = [leave_behind(rack, RuntimeError("secret-key-123"))]
    placement = await Rig(rack, Scripted("cloud")).place()

    assert ({}, [("rack-1", Reason.BACKEND_FAULT), ("cloud-1", Reason.ROUTED)]) == (
        rack.there,
        reasons(placement.steps),
    )
    assert "secret" not in placement.lines[0]


async def test_a_clean_up_goes_on_until_the_machine_is_gone():
    rack = Scripted("rack", terminate=[NotYetTerminatedError("going"), UnavailableError("down"), ThrottledError("no")])
    rack.script["provision"] = [leave_behind(rack, RuntimeError("bug"))]
    placement = await Rig(rack, Scripted("cloud")).place_in(10_000)

    assert ({}, "cloud-1") == (rack.there, placement.instance.offer)


class ScriptedRemains(Scripted, SupportsRemains):
    """Everything that it made stands and does not run."""

    async def find(self, token):
        return None

    async def list_remains(self):
        return tuple(Remains(one.id, one.token, one.ownership, "failed") for one in self.there.values())


async def test_a_clean_up_goes_on_until_nothing_of_a_machine_that_failed_stands():
    rack = ScriptedRemains("rack", terminate=[NotYetTerminatedError("going"), None])
    rack.script["provision"] = [leave_behind(rack, RuntimeError("bug"))]
    placement = await Rig(rack, Scripted("cloud")).place_in(10_000)

    assert ({}, 3, "cloud-1") == (rack.there, rack.calls.count("terminate"), placement.instance.offer)


async def test_an_absence_is_believed_only_beyond_the_consistency_window():
    rack = Scripted("rack", find=[None], window_ms=5000)
    rack.script["provision"] = [leave_behind(rack, RuntimeError("bug"))]
    await Rig(rack, Scripted("cloud")).place_in(20_000)

    assert ({}, 1) == (rack.there, rack.calls.count("terminate"))


@pytest.mark.parametrize(
    "script",
    [
        {"terminate": [CredentialsError("no")]},
        {"terminate": [RuntimeError("bug")]},
        {"find": [CredentialsError("no")]},
        {"find": ["not an instance"]},
    ],
    ids=["terminate is refused", "terminate is faulty", "find is refused", "find is faulty"],
)
async def test_what_cannot_be_cleaned_up_stops_the_route(script):
    rack, cloud = Scripted("rack", **script), Scripted("cloud")
    rack.script["provision"] = [leave_behind(rack, RuntimeError("bug"))]
    rig = Rig(rack, cloud)
    with pytest.raises(StopFailoverError, match="may be left behind, compute-bridge sweep tells"):
        await rig.place()

    assert ([], [("intent", "rack-1", 0)]) == (cloud.tokens, rig.journal.events)


async def test_a_clean_up_that_never_ends_stops_the_route():
    rack = Scripted("rack", terminate=[NotYetTerminatedError("going")] * 100)
    rack.script["provision"] = [leave_behind(rack, RuntimeError("bug"))]
    with pytest.raises(StopFailoverError):
        await Rig(rack, limits=AttemptLimits(undo_s=0.05)).place()


async def test_a_backend_that_says_stop_stops_the_route():
    rack, cloud = Scripted("rack", provision=[StopFailoverError("left behind")]), Scripted("cloud")
    rig = Rig(rack, cloud)
    with pytest.raises(StopFailoverError):
        await rig.place()

    assert ([], [("intent", "rack-1", 0)], ["provision"]) == (cloud.tokens, rig.journal.events, rack.calls)


async def test_a_cancelled_clean_up_ends_first():
    rack = Scripted("rack")
    rack.script["provision"] = [leave_behind(rack, RuntimeError("bug"))]
    cloud = Scripted("cloud")
    rig = Rig(rack, cloud)

    def find(token):
        tasks.cancel_scope.cancel()
        return rack.there.get(token)

    async with anyio.create_task_group() as tasks:
        rack.script["find"] = [find]
        tasks.start_soon(rig.place)

    assert ({}, {}) == (rack.there, cloud.there)


async def test_grants_placed_at_once_do_not_disturb_each_other():
    rig = Rig(Scripted("rack", tuple(offer(f"o{at}") for at in range(5)), provision=[NoCapacityError("full")] * 3))
    placed = []

    async def place(at):
        grant = evolve(GRANT, id=GrantId(bytes([at]) * 32))

        def order(one, number):
            token = order_token(grant.id, one.backend, one.region, one.zone, one.shape, attempt=number)
            return make_order(one, token, needs=NEEDS, image=IMAGE, user="guest", now=UtcMs(1))

        placed.append(await rig.place(grant, order_for=order))

    async with anyio.create_task_group() as tasks:
        for at in range(10):
            tasks.start_soon(place, at)

    assert 10 == len({one.instance.token for one in placed})


# --- why the others lost --------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_route_tells_why_each_other_offer_lost():
    free = offer("free", "rack", cost=CostBasis("EUR", UnitNanos(), UtcMs(NOW), "test"))
    there = offer("there", "rack", region=Region("moon"))
    rack = Scripted("rack", (offer("cheap", micros=100), offer("fair", micros=200), free, there))
    dear = Scripted("cloud", (offer("dear", "cloud", micros=1001), offer("small", "cloud", resources=Resources(1, 1))))
    placement = await Rig(rack, dear).place()

    assert [
        ("dear", Reason.ABOVE_CLEARED_RATE),
        ("fair", Reason.OUTBID),
        ("free", Reason.COST_ZERO),
        ("", Reason.SHAPE),
        ("", Reason.REGION),
    ] == reasons(placement.passed_over)


@pytest.mark.anyio
async def test_a_catalogue_of_losers_is_told_in_a_few_lines():
    many = tuple(offer(f"o{at:03}", micros=100 + at) for at in range(300))
    placement = await Rig(Scripted("rack", many)).place()

    assert 8 == len(placement.passed_over)


@pytest.mark.anyio
async def test_a_grant_that_only_offers_in_quarantine_could_serve_is_refused_for_what_ails_them():
    free = offer("free", cost=CostBasis("EUR", UnitNanos(), UtcMs(NOW), "test"))
    error = await Rig(Scripted("rack", (free,))).refused()

    assert (Reason.COST_ZERO, [("free", Reason.COST_ZERO)]) == (error.reason, reasons(error.passed_over))


class Slow(Journal):
    """A journal in which a day passes with each failure."""

    def __init__(self, clock):
        super().__init__()
        self._clock = clock

    async def failed(self, order, reason, detail):
        await self._clock.advance(86_400_000)
        await super().failed(order, reason, detail)


@pytest.mark.anyio
async def test_an_offer_whose_cost_grows_stale_on_the_way_is_not_ordered():
    full = NoCapacityError("full", scope=Scope.OFFER)
    rig = Rig(Scripted("rack", (offer("a"), offer("b", micros=200)), provision=[full]))
    rig.journal = Slow(rig.clock)
    error = await rig.refused()

    assert [("a", Reason.NO_CAPACITY), ("b", Reason.COST_STALE)] == reasons(error.steps)


def test_a_step_of_any_words_fits_in_the_journal():
    step = RouteStep(BackendName("rack"), "\N{FULL BLOCK}" * 128, Reason.BACKEND_FAULT, "\N{FULL BLOCK}" * 9000)

    assert len(codec.encode(routed((step.line,) * 96))) < MAX_BODY


async def test_what_is_benched_is_named_though_another_offer_took_it():
    full = NoCapacityError("full", scope=Scope.ZONE)
    cloud = Scripted("cloud", (offer("c-1", "cloud"), offer("c-2", "cloud", micros=200)), provision=[full])
    rig = Rig(cloud, Scripted("rack"))
    await rig.place()
    placement = await rig.place()

    assert [("rack-1", Reason.ROUTED)] == reasons(placement.steps)
    assert [("c-1", Reason.BENCHED), ("c-2", Reason.BENCHED)] == reasons(placement.passed_over)
    assert "benched cloud/c-2: zone: full" in placement.lines

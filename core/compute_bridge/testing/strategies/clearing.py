"""What every clearing rule promises."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.model.clearing import Award
from compute_bridge.model.ids import ID_BYTES, UniqueId, grant_id
from compute_bridge.model.reason import Reason
from compute_bridge.ports.strategy import Bidder, Cleared, ClearingRule, OpenRequest, Round
from compute_bridge.testing.strategies.rounds import drawn_round, even_round, turned
from compute_bridge.testing.strategies.values import EXAMPLES, digest_of

# That a fair lot falls on one side so often is less likely than that this machine errs.
_BEACONS = 64
# A seed stands for its round: a whole round is too long to be shown where a test fails.
_SEEDS = st.integers(0, 10**6)


class ClearingRuleConformance:
    """Every promise of :class:`~compute_bridge.ports.strategy.ClearingRule`.

    A subclass gives the fixture ``rule``. Whether the rule is a good one is for others to say.
    """

    @pytest.fixture
    def rule(self) -> ClearingRule:
        """Return the rule under test; the subclass says which."""
        pytest.fail(f"{type(self).__name__} has no fixture 'rule': add one", pytrace=False)

    def test_fingerprint_pins_the_rule(self, rule: ClearingRule) -> None:
        """The fingerprint is 32 bytes and does not change as rounds are cleared.

        Troubleshooting: make it of the rule's name, version and settings, and of nothing that it has seen.
        """
        before = rule.fingerprint
        rule.clear(even_round(2, 2, bytes(32)))

        assert len(before) == ID_BYTES, f"the fingerprint has {len(before)} bytes"
        assert rule.fingerprint == before, "the fingerprint changed as a round was cleared"

    def test_clearing_is_pure(self, rule: ClearingRule) -> None:
        """The same round clears the same way, whatever was cleared in between: anyone can recompute it.

        Troubleshooting: keep nothing between rounds; draw lots from the beacon only.
        """

        @EXAMPLES
        @given(seed=_SEEDS, between=_SEEDS)
        def check(seed: int, between: int) -> None:
            round_ = drawn_round(seed)
            before = rule.clear(round_)
            assert rule.clear(round_) == before, "the same round cleared in another way at once"
            rule.clear(drawn_round(between))
            assert rule.clear(round_) == before, "the same round cleared in another way"

        check()

    def test_the_order_of_inputs_does_not_matter(self, rule: ClearingRule) -> None:
        """A round clears the same way however its requests and cards are listed.

        Troubleshooting: sort by id first; decide by the beacon's hash, never by who is listed first.
        """
        _always(rule, lambda round_, cleared: _same(rule.clear(turned(round_)), cleared))

    def test_every_bid_has_one_verdict(self, rule: ClearingRule) -> None:
        """There is one verdict for each request and provider, in the order of both ids, and ``won`` is an award.

        Troubleshooting: a provider that could not bid has a verdict too; it says why.
        """
        _always(rule, _has_every_verdict)

    def test_awards_are_within_what_was_asked(self, rule: ClearingRule) -> None:
        """A request is awarded once at most, to a provider that it does not exclude, at no more than its max rate.

        Troubleshooting: the max rate is the whole rate for an hour, before fees; equal is still within.
        """
        _always(rule, _is_within_the_request)

    def test_awards_are_within_the_card(self, rule: ClearingRule) -> None:
        """An award is for a row of the card, within one of its capabilities and that row's band, at its rate or more.

        Troubleshooting: one capability must serve all the needs; a row without a capability sells nothing.
        """
        _always(rule, _is_within_the_card)

    def test_awards_are_within_the_capacity(self, rule: ClearingRule) -> None:
        """No provider gets more than it has free: in all, and in each band.

        Troubleshooting: count the awards of this round beside what was open before it.
        """
        _always(rule, _is_within_the_capacity)

    def test_grants_are_named_by_request_and_round(self, rule: ClearingRule) -> None:
        """A grant's id is derived from the module, the request and the round, so a round awards it once.

        Troubleshooting: use ``compute_bridge.model.ids.grant_id``.
        """
        _always(rule, _is_named_rightly)

    def test_the_beacon_decides_ties(self, rule: ClearingRule) -> None:
        """Between two providers that ask the same, the beacon decides, and over many beacons each wins sometimes.

        Troubleshooting: compare H(beacon, request, provider); an id can be ground until it sorts first.
        """
        winners = {award.provider_id for award in _awards_over_beacons(rule, requests=1, providers=2)}

        assert len(winners) == 2, "one of two providers that ask the same never wins, whatever the beacon"

    def test_the_beacon_decides_scarcity(self, rule: ClearingRule) -> None:
        """Between two requests for one slot, the beacon decides, and over many beacons each wins sometimes.

        Troubleshooting: compare H(beacon, request, provider); the first to ask is not the first to be served.
        """
        winners = {award.request_id for award in _awards_over_beacons(rule, requests=2, providers=1)}

        assert len(winners) == 2, "one of two requests that are alike never wins, whatever the beacon"


def _always(rule: ClearingRule, check: Callable[[Round, Cleared], Any]) -> None:
    @EXAMPLES
    @given(seed=_SEEDS)
    def clear(seed: int) -> None:
        round_ = drawn_round(seed)
        check(round_, rule.clear(round_))

    clear()


def _awards_over_beacons(rule: ClearingRule, *, requests: int, providers: int) -> Iterator[Award]:
    for number in range(_BEACONS):
        awards = rule.clear(even_round(requests, providers, digest_of(f"beacon {number}"))).awards
        assert len(awards) == 1, f"one slot or one request, and {len(awards)} awards"
        yield awards[0]


def _same(one: Cleared, other: Cleared) -> None:
    assert one == other, "the round clears in another way when its inputs are listed in another order"


def _pairs(round_: Round, cleared: Cleared) -> Iterator[tuple[Award, OpenRequest, Bidder]]:
    requests = {one.id: one for one in round_.requests}
    bidders = {one.card.provider_id: one for one in round_.bidders}
    for award in cleared.awards:
        assert award.request_id in requests, "an award for a request that is not in the round"
        assert award.provider_id in bidders, "an award to a provider that is not in the round"
        yield award, requests[award.request_id], bidders[award.provider_id]


def _has_every_verdict(round_: Round, cleared: Cleared) -> None:
    expected = sorted((one.id, other.card.provider_id) for one in round_.requests for other in round_.bidders)
    assert [(one.request_id, one.provider_id) for one in cleared.verdicts] == expected, (
        "the verdicts are not one for each request and provider, in the order of both ids"
    )
    won = {(one.request_id, one.provider_id, one.rate) for one in cleared.verdicts if one.reason is Reason.WON}
    awarded = {(award.request_id, award.provider_id, award.rate) for award in cleared.awards}
    assert won == awarded, "the verdicts that say won are not the awards"


def _is_within_the_request(round_: Round, cleared: Cleared) -> None:
    for award, one, _ in _pairs(round_, cleared):
        assert award.provider_id not in one.excluded, "an award to a provider that the request excludes"
        assert award.rate <= one.request.max_rate, f"{award.rate} is above the max rate {one.request.max_rate}"
    requests = [award.request_id for award in cleared.awards]
    assert len(requests) == len(set(requests)), "a request is awarded twice"


def _is_within_the_card(round_: Round, cleared: Cleared) -> None:
    for award, one, other in _pairs(round_, cleared):
        wanted, card = one.request.requirements, other.card
        row = card.rates.find(award.region, award.posture, award.band)
        assert award.card_hash == other.card_hash, "an award names another card than the provider's"
        assert row is not None, "an award for a row that is not on the card"
        assert award.rate >= row.units.hourly(wanted), "an award at less than the card asks"
        place = (award.region, award.posture)
        served = [one for one in card.capabilities if (one.region, one.posture) == place and one.serves(wanted)]
        assert served, "an award that no capability of the card serves"
        assert any(band.name == award.band and band.covers(wanted) for band in card.bands), "an award out of its band"


def _is_within_the_capacity(round_: Round, cleared: Cleared) -> None:
    awards = Counter(award.provider_id for award in cleared.awards)
    by_band = Counter((award.provider_id, award.band) for award in cleared.awards)
    for one in round_.bidders:
        provider, card = one.card.provider_id, one.card
        free = max(0, card.max_leases - one.open)
        assert awards[provider] <= free, f"{awards[provider]} awards to a provider with {free} free"
        for band in card.bands:
            slots = max(0, band.slots - one.loads.get(band.name, 0))
            assert by_band[provider, band.name] <= slots, f"more awards in band {band.name} than its {slots} free slots"


def _is_named_rightly(round_: Round, cleared: Cleared) -> None:
    for award in cleared.awards:
        name = grant_id(award.request_id, UniqueId(round_.module), round_.inputs.round)
        assert award.grant_id == name, "a grant's id is not derived from module, request and round"

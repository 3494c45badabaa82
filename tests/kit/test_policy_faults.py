"""Every suite of a strategy catches the faults planted here, and each of its tests catches one."""

import pytest
from attrs import evolve

from compute_bridge.api import ReputationPolicy
from compute_bridge.model.rates import RateTable
from compute_bridge.model.units import NanosPerHour
from compute_bridge.testing.policies import (
    RatePolicyConformance,
    ReputationPolicyConformance,
    RoutingPolicyConformance,
)
from compute_bridge_rates.cost_plus import CostPlus, CostPlusConfig
from compute_bridge_routing.policies import Cheapest, CheapestConfig

CAUGHT = (AssertionError, pytest.fail.Exception, ValueError, ArithmeticError)


def suite_tests(suite):
    return {name for name in dir(suite) if name.startswith("test_")}


def named(pairs):
    return [pytest.param(fault, test, id=f"{getattr(fault, '__name__', fault)}-{test}") for fault, test in pairs]


# --- rates --------------------------------------------------------------------------------------


class HonestRates(CostPlus):
    def __init__(self):
        super().__init__(CostPlusConfig(margin_bps=1000))

    def with_vcpu(self, question, nanos):
        rows = super().rates(question).rows
        return RateTable(
            question.currency,
            tuple(evolve(row, units=evolve(row.units, vcpu=NanosPerHour(nanos(row)))) for row in rows),
        )


class NeedsAnOffer(HonestRates):
    def rates(self, question):
        self.average = sum(offer.resources.cpu_millis for offer in question.offers) / len(question.offers)
        return super().rates(question)


class AsksInDollars(HonestRates):
    def rates(self, question):
        return evolve(super().rates(question), currency="USD")


class AsksMoreEachTime(HonestRates):
    asked = 0

    def rates(self, question):
        self.asked += 1
        return self.with_vcpu(question, lambda row: row.units.vcpu + self.asked)


class AsksWhatTheFirstOfferCosts(HonestRates):
    def rates(self, question):
        return super().rates(evolve(question, offers=question.offers[:1]))


class AsksLessWhereItCostsMore(HonestRates):
    def rates(self, question):
        return self.with_vcpu(question, lambda row: 10**15 - row.units.vcpu)


RATE_FAULTS = [
    (NeedsAnOffer, "test_rates_answer_every_question"),
    (AsksInDollars, "test_rates_answer_every_question"),
    (AsksMoreEachTime, "test_rates_are_pure"),
    (AsksWhatTheFirstOfferCosts, "test_the_order_of_offers_does_not_matter"),
    (AsksLessWhereItCostsMore, "test_a_costlier_offer_never_lowers_a_rate"),
]


@pytest.mark.parametrize(("fault", "test"), named(RATE_FAULTS))
def test_a_fault_in_rates_is_caught(fault, test):
    with pytest.raises(CAUGHT):
        getattr(RatePolicyConformance(), test)(fault())


@pytest.mark.parametrize("test", sorted(suite_tests(RatePolicyConformance)))
def test_honest_rates_pass(test):
    getattr(RatePolicyConformance(), test)(HonestRates())


# --- routing ------------------------------------------------------------------------------------


class HonestRouting(Cheapest):
    def __init__(self):
        super().__init__(CheapestConfig())


class PrefersByWord(HonestRouting):
    @property
    def preference(self):
        return "cheapest"


class DropsTheLast(HonestRouting):
    def rank(self, candidates):
        return candidates[:-1]


class NamesOneTwice(HonestRouting):
    def rank(self, candidates):
        return [*candidates, *candidates[:1]]


class MakesItCheaper(HonestRouting):
    def rank(self, candidates):
        return [evolve(one, hourly_cost=0) for one in candidates]


class TakesTurns(HonestRouting):
    turn = 0

    def rank(self, candidates):
        self.turn += 1
        at = self.turn % max(1, len(candidates))
        return [*candidates[at:], *candidates[:at]]


class SortsInPlace(HonestRouting):
    def rank(self, candidates):
        if isinstance(candidates, list):
            candidates.reverse()
            return candidates
        return candidates[::-1]


ROUTING_FAULTS = [
    (PrefersByWord, "test_preference_is_one_of_the_index"),
    (DropsTheLast, "test_rank_returns_a_permutation"),
    (NamesOneTwice, "test_rank_returns_a_permutation"),
    (MakesItCheaper, "test_rank_returns_a_permutation"),
    (TakesTurns, "test_rank_is_pure"),
    (SortsInPlace, "test_rank_is_pure"),
]


@pytest.mark.parametrize(("fault", "test"), named(ROUTING_FAULTS))
def test_a_fault_in_routing_is_caught(fault, test):
    with pytest.raises(CAUGHT):
        getattr(RoutingPolicyConformance(), test)(fault())


@pytest.mark.parametrize("test", sorted(suite_tests(RoutingPolicyConformance)))
def test_honest_routing_passes(test):
    getattr(RoutingPolicyConformance(), test)(HonestRouting())


# --- reputation ---------------------------------------------------------------------------------

KINDS = ("served", "no-show")


class HonestReputation(ReputationPolicy):
    def score(self, provider, observations, now):
        good = sum(one.weight for one in observations if one.kind == "served" and now - one.tick < 50)
        bad = sum(one.weight for one in observations if one.kind == "no-show" and now - one.tick < 50)
        return max(0, min(1000, 500 + good - bad))


class KnowsNoBounds(HonestReputation):
    def score(self, provider, observations, now):
        return sum(one.weight for one in observations)


class ScoresInFractions(HonestReputation):
    def score(self, provider, observations, now):
        return super().score(provider, observations, now) / 2


class BearsGrudges(HonestReputation):
    grudge = 0

    def score(self, provider, observations, now):
        self.grudge += 1
        return max(0, super().score(provider, observations, now) - self.grudge)


class BelievesTheLast(HonestReputation):
    def score(self, provider, observations, now):
        return super().score(provider, observations[-1:], now)


REPUTATION_FAULTS = [
    (KnowsNoBounds, "test_scores_stay_in_range"),
    (ScoresInFractions, "test_scores_stay_in_range"),
    (BearsGrudges, "test_scores_are_pure"),
    (BelievesTheLast, "test_order_within_a_tick_does_not_matter"),
]


@pytest.mark.parametrize(("fault", "test"), named(REPUTATION_FAULTS))
def test_a_fault_in_reputation_is_caught(fault, test):
    with pytest.raises(CAUGHT):
        getattr(ReputationPolicyConformance(), test)(fault(), KINDS)


@pytest.mark.parametrize("test", sorted(suite_tests(ReputationPolicyConformance)))
def test_honest_reputation_passes(test):
    getattr(ReputationPolicyConformance(), test)(HonestReputation(), KINDS)


def test_every_test_catches_a_fault():
    suites = RatePolicyConformance, RoutingPolicyConformance, ReputationPolicyConformance
    faults = [*RATE_FAULTS, *ROUTING_FAULTS, *REPUTATION_FAULTS]

    assert set().union(*map(suite_tests, suites)) == {test for _, test in faults}

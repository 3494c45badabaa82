"""The suite of clearing rules catches every fault planted here, and each of its tests catches one."""

import pytest
from attrs import evolve

from compute_bridge.model.reason import Reason
from compute_bridge.testing.policies import ClearingRuleConformance
from compute_bridge.testing.strategies.values import digest_of
from compute_bridge_market.rule import LowestRate


def named(pairs):
    return [pytest.param(fault, test, id=f"{fault.__name__}-{test}") for fault, test in pairs]


def suite_tests(suite):
    return {name for name in dir(suite) if name.startswith("test_")}


def awarded(cleared, change):
    awards = tuple(change(award) for award in cleared.awards)
    rates = {(award.request_id, award.provider_id): award.rate for award in awards}
    verdicts = tuple(
        evolve(one, rate=rates.get((one.request_id, one.provider_id), one.rate)) if one.reason is Reason.WON else one
        for one in cleared.verdicts
    )
    return evolve(cleared, awards=awards, verdicts=verdicts)


class ChangesItsFingerprint(LowestRate):
    rounds = 0

    @property
    def fingerprint(self):
        return digest_of(f"rule {self.rounds}")

    def clear(self, round_):
        self.rounds += 1
        return super().clear(round_)


class RestsEverySecondRound(LowestRate):
    rounds = 0

    def clear(self, round_):
        self.rounds += 1
        return super().clear(round_ if self.rounds % 2 else evolve(round_, bidders=()))


class ServesTheFirstListed(LowestRate):
    def clear(self, round_):
        return super().clear(evolve(round_, requests=round_.requests[:1]))


class SaysNothingToLosers(LowestRate):
    def clear(self, round_):
        cleared = super().clear(round_)
        return evolve(cleared, verdicts=tuple(one for one in cleared.verdicts if one.reason is Reason.WON))


class WinsWithoutAVerdict(LowestRate):
    def clear(self, round_):
        return evolve(super().clear(round_), awards=())


class TakesWhatItCanGet(LowestRate):
    def clear(self, round_):
        return awarded(super().clear(round_), lambda award: evolve(award, rate=10**7))


class ForgetsExclusions(LowestRate):
    def clear(self, round_):
        requests = tuple(evolve(one, excluded=frozenset()) for one in round_.requests)
        return super().clear(evolve(round_, requests=requests))


class AwardsTwice(LowestRate):
    def clear(self, round_):
        cleared = super().clear(round_)
        return evolve(cleared, awards=cleared.awards * 2)


class SellsForNothing(LowestRate):
    def clear(self, round_):
        return awarded(super().clear(round_), lambda award: evolve(award, rate=0))


class NamesAnotherCard(LowestRate):
    def clear(self, round_):
        return awarded(super().clear(round_), lambda award: evolve(award, card_hash=bytes(32)))


class NamesAnotherRow(LowestRate):
    def clear(self, round_):
        return awarded(super().clear(round_), lambda award: evolve(award, band="huge"))


class Overbooks(LowestRate):
    def clear(self, round_):
        return super().clear(evolve(round_, bidders=tuple(map(self.emptied, round_.bidders))))

    @staticmethod
    def emptied(bidder):
        bands = tuple(evolve(band, slots=100) for band in bidder.card.bands)
        return evolve(bidder, card=evolve(bidder.card, bands=bands, max_leases=100), open=0, loads={})


class OverbooksABand(LowestRate):
    def clear(self, round_):
        return super().clear(evolve(round_, bidders=tuple(evolve(one, loads={}) for one in round_.bidders)))


class NamesGrantsByProvider(LowestRate):
    def clear(self, round_):
        return awarded(super().clear(round_), lambda award: evolve(award, grant_id=award.provider_id))


class CannotHearTheBeacon(LowestRate):
    def clear(self, round_):
        return super().clear(evolve(round_, inputs=evolve(round_.inputs, beacon=bytes(32))))


CLEARING_FAULTS = [
    (ChangesItsFingerprint, "test_fingerprint_pins_the_rule"),
    (RestsEverySecondRound, "test_clearing_is_pure"),
    (ServesTheFirstListed, "test_the_order_of_inputs_does_not_matter"),
    (SaysNothingToLosers, "test_every_bid_has_one_verdict"),
    (WinsWithoutAVerdict, "test_every_bid_has_one_verdict"),
    (TakesWhatItCanGet, "test_awards_are_within_what_was_asked"),
    (ForgetsExclusions, "test_awards_are_within_what_was_asked"),
    (AwardsTwice, "test_awards_are_within_what_was_asked"),
    (SellsForNothing, "test_awards_are_within_the_card"),
    (NamesAnotherCard, "test_awards_are_within_the_card"),
    (NamesAnotherRow, "test_awards_are_within_the_card"),
    (Overbooks, "test_awards_are_within_the_capacity"),
    (OverbooksABand, "test_awards_are_within_the_capacity"),
    (NamesGrantsByProvider, "test_grants_are_named_by_request_and_round"),
    (CannotHearTheBeacon, "test_the_beacon_decides_ties"),
    (CannotHearTheBeacon, "test_the_beacon_decides_scarcity"),
]


@pytest.mark.parametrize(("fault", "test"), named(CLEARING_FAULTS))
def test_a_fault_is_caught(fault, test):
    with pytest.raises(AssertionError):
        getattr(ClearingRuleConformance(), test)(fault())


@pytest.mark.parametrize("test", sorted(suite_tests(ClearingRuleConformance)))
def test_the_honest_rule_passes(test):
    getattr(ClearingRuleConformance(), test)(LowestRate())


def test_every_test_catches_a_fault():
    assert suite_tests(ClearingRuleConformance) == {test for _, test in CLEARING_FAULTS}

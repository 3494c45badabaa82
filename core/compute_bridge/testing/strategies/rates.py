"""What every rate policy promises."""

from itertools import permutations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.model.rates import RateTable
from compute_bridge.model.units import NanosPerHour
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.strategy import MarketView, RatePolicy, RateQuestion
from compute_bridge.testing.strategies.values import CURRENCY, EXAMPLES, bands, cards, offers

_DEARER = 10**6


@st.composite
def questions(draw: st.DrawFn) -> RateQuestion:
    """Draw a question, now and then with another provider's card to read."""
    others = draw(st.lists(cards("other"), max_size=1))
    return RateQuestion(CURRENCY, draw(offers()), draw(bands()), MarketView(tuple(others)))


class RatePolicyConformance:
    """Every promise of :class:`~compute_bridge.ports.strategy.RatePolicy`: pure, total, monotone.

    A subclass gives the fixture ``policy``. That no rate is negative, and that more of a resource never costs less, the
    values themselves see to.
    """

    @pytest.fixture
    def policy(self) -> RatePolicy:
        """Return the policy under test; the subclass says which."""
        pytest.fail(f"{type(self).__name__} has no fixture 'policy': add one", pytrace=False)

    def test_rates_answer_every_question(self, policy: RatePolicy) -> None:
        """Whatever is asked, there is a rate table in the question's currency; perhaps an empty one.

        Troubleshooting: no offers, no bands, costs of nothing and costs of a fortune; let what cannot be priced out.
        """

        @EXAMPLES
        @given(question=questions())
        def check(question: RateQuestion) -> None:
            table = policy.rates(question)
            assert isinstance(table, RateTable), f"rates() returned {type(table).__name__}"
            assert table.currency == question.currency, f"asked for {question.currency}, told {table.currency}"

        check()

    def test_rates_are_pure(self, policy: RatePolicy) -> None:
        """The same question has the same answer, whatever was asked in between.

        Troubleshooting: keep nothing between questions, read no clock and draw no lots.
        """

        @EXAMPLES
        @given(question=questions(), between=questions())
        def check(question: RateQuestion, between: RateQuestion) -> None:
            before = policy.rates(question)
            assert policy.rates(question) == before, "the same question has another answer at once"
            policy.rates(between)
            assert policy.rates(question) == before, "the same question has another answer the second time"

        check()

    def test_the_order_of_offers_does_not_matter(self, policy: RatePolicy) -> None:
        """The same offers in another order have the same rates: a backend lists its offers as it likes.

        Troubleshooting: take a maximum or a minimum over the offers, not the first or the last.
        """

        @EXAMPLES
        @given(question=questions())
        def check(question: RateQuestion) -> None:
            tables = {policy.rates(evolve(question, offers=order)) for order in permutations(question.offers)}
            assert len(tables) == 1, "the rates depend on the order in which the offers are listed"

        check()

    def test_a_costlier_offer_never_lowers_a_rate(self, policy: RatePolicy) -> None:
        """Where one offer comes to cost more, no rate falls; it may rise, or no longer be told.

        Troubleshooting: an average or the cheapest offer can fall when an offer drops out; the costliest cannot.
        """

        @EXAMPLES
        @given(question=questions(), which=st.integers(0, 3))
        def check(question: RateQuestion, which: int) -> None:
            dearer = tuple(_dearer(offer) if at == which else offer for at, offer in enumerate(question.offers))
            before = {row.key: row.units for row in policy.rates(question).rows}
            for row in policy.rates(evolve(question, offers=dearer)).rows:
                known = before.get(row.key)
                if known is not None:
                    assert row.units.vcpu >= known.vcpu, f"a costlier offer lowered the rate of {row.key}"
                    assert row.units.machine >= known.machine, f"a costlier offer lowered the rate of {row.key}"

        check()


def _dearer(offer: Offer) -> Offer:
    units = offer.cost.units
    raised = evolve(units, machine=NanosPerHour(units.machine + _DEARER), vcpu=NanosPerHour(units.vcpu + _DEARER))
    return evolve(offer, cost=evolve(offer.cost, units=raised))

"""What every reputation policy promises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.model.ids import Fingerprint, ProviderId
from compute_bridge.model.reputation import Observation
from compute_bridge.model.units import Tick
from compute_bridge.ports.strategy import ReputationPolicy
from compute_bridge.testing.strategies.values import EXAMPLES, digest_of

_NOW = 100
_MOST = 1000
_ABOUT = ProviderId(digest_of("provider"))


class ReputationPolicyConformance:
    """Every promise of :class:`~compute_bridge.ports.strategy.ReputationPolicy`: pure, in range, blind to order.

    A subclass gives the fixtures ``policy`` and ``kinds``: the kinds of observation that the policy weighs.
    """

    @pytest.fixture
    def policy(self) -> ReputationPolicy:
        """Return the policy under test; the subclass says which."""
        pytest.fail(f"{type(self).__name__} has no fixture 'policy': add one", pytrace=False)

    @pytest.fixture
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of observation that the policy weighs; the subclass says which."""
        pytest.fail(f"{type(self).__name__} has no fixture 'kinds': add one", pytrace=False)

    def test_scores_stay_in_range(self, policy: ReputationPolicy, kinds: tuple[str, ...]) -> None:
        """Whatever was observed, also nothing and also unknown kinds, the score is a whole number from 0 to 1000.

        Troubleshooting: bound the score last; leave out what you do not know.
        """

        @EXAMPLES
        @given(seen=_observations((*kinds, "unheard-of")))
        def check(seen: list[Observation]) -> None:
            score = policy.score(_ABOUT, seen, _NOW)
            assert type(score) is int, f"a score is a whole number, not {score!r}"
            assert 0 <= score <= _MOST, f"the score {score} is not from 0 to {_MOST}"

        check()

    def test_scores_are_pure(self, policy: ReputationPolicy, kinds: tuple[str, ...]) -> None:
        """The same observations at the same tick have the same score, whatever was scored in between.

        Troubleshooting: keep nothing between calls, read no clock, and change no list that you are given.
        """

        @EXAMPLES
        @given(seen=_observations(kinds), between=_observations(kinds))
        def check(seen: list[Observation], between: list[Observation]) -> None:
            before = policy.score(_ABOUT, list(seen), _NOW)
            assert policy.score(_ABOUT, seen, _NOW) == before, "the same observations have another score at once"
            policy.score(_ABOUT, between, _NOW)
            assert policy.score(_ABOUT, seen, _NOW) == before, "the same observations have another score"

        check()

    def test_order_within_a_tick_does_not_matter(self, policy: ReputationPolicy, kinds: tuple[str, ...]) -> None:
        """Observations of one tick count alike in whatever order they come.

        Troubleshooting: add up before you bound; records of one tick have no order among themselves.
        """

        @EXAMPLES
        @given(seen=_observations(kinds))
        def check(seen: list[Observation]) -> None:
            by_tick = sorted(seen, key=lambda one: one.tick)
            turned = sorted(reversed(seen), key=lambda one: one.tick)
            scores = {policy.score(_ABOUT, order, _NOW) for order in (by_tick, turned)}
            assert len(scores) == 1, f"the order within one tick makes the score one of {sorted(scores)}"

        check()


def _observations(kinds: tuple[str, ...]) -> st.SearchStrategy[list[Observation]]:
    one = st.builds(
        lambda kind, tick, weight, number: Observation(
            _ABOUT, kind, Tick(tick), weight, Fingerprint(digest_of(f"record {number}"))
        ),
        kind=st.sampled_from(kinds),
        tick=st.sampled_from((0, _NOW - 1, _NOW)),
        weight=st.sampled_from((0, 1, 7, 10**6)),
        number=st.integers(0, 10**6),
    )
    return st.lists(one, max_size=8)

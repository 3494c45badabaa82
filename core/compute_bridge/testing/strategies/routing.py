"""What every routing policy promises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.ports.strategy import Candidate, Preference, RoutingPolicy
from compute_bridge.testing.strategies.values import EXAMPLES, needs, offers

_MOST = 64


@st.composite
def candidates(draw: st.DrawFn) -> tuple[Candidate, ...]:
    """Draw a short list as the host's index gives it, from up to three backends."""
    wanted = draw(needs())
    found = draw(offers()) * draw(st.sampled_from((1, 1, 3)))
    backends = draw(st.lists(st.integers(0, 2), min_size=len(found), max_size=len(found)))
    listed = [
        Candidate(offer, offer.cost.hourly(wanted), backend) for offer, backend in zip(found, backends, strict=True)
    ]
    return tuple(sorted(listed, key=lambda one: (one.order, one.hourly_cost)))


class RoutingPolicyConformance:
    """Every promise of :class:`~compute_bridge.ports.strategy.RoutingPolicy`: a pure permutation.

    A subclass gives the fixture ``policy``.
    """

    @pytest.fixture
    def policy(self) -> RoutingPolicy:
        """Return the policy under test; the subclass says which."""
        pytest.fail(f"{type(self).__name__} has no fixture 'policy': add one", pytrace=False)

    def test_preference_is_one_of_the_index(self, policy: RoutingPolicy) -> None:
        """``preference`` is an order that the host's index can give, and always the same.

        Troubleshooting: return a member of ``Preference``, not its word.
        """
        assert isinstance(policy.preference, Preference), f"preference is {policy.preference!r}"
        assert policy.preference is policy.preference, "preference changes"

    def test_rank_returns_a_permutation(self, policy: RoutingPolicy) -> None:
        """Every candidate comes back once, also of none, of alike ones, and of the most there can be.

        Troubleshooting: to avoid a candidate, rank it last; the host refuses a list that adds or drops one.
        """

        @EXAMPLES
        @given(given_=candidates())
        def check(given_: tuple[Candidate, ...]) -> None:
            _permutes(policy, given_)
            _permutes(policy, (given_ * _MOST)[:_MOST])

        check()

    def test_rank_is_pure(self, policy: RoutingPolicy) -> None:
        """The same candidates come back in the same order, whatever was ranked in between.

        Troubleshooting: keep nothing between calls, draw no lots, and change no list that you are given.
        """

        @EXAMPLES
        @given(given_=candidates(), between=candidates())
        def check(given_: tuple[Candidate, ...], between: tuple[Candidate, ...]) -> None:
            before, listed = list(policy.rank(given_)), list(given_)
            assert list(policy.rank(given_)) == before, "the same candidates come back in another order at once"
            policy.rank(between)
            assert list(policy.rank(listed)) == before, "the same candidates come back in another order"
            assert listed == list(given_), "rank() changed the list that it was given"

        check()


def _permutes(policy: RoutingPolicy, candidates_: tuple[Candidate, ...]) -> None:
    ranked = list(policy.rank(candidates_))
    assert _counted(ranked) == _counted(candidates_), "rank() added, dropped or changed a candidate"


def _counted(found: list[Candidate] | tuple[Candidate, ...]) -> list[str]:
    return sorted(map(repr, found))

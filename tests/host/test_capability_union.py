"""The union of capabilities: what serves all that all serve, and nothing twice; also of a whole catalogue."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.host.offer_check import capability_union
from compute_bridge.model.resources import Capability, NetworkPolicy, Posture, Region, Resources
from compute_bridge.model.units import Milliseconds

NETWORKS = ((NetworkPolicy.EGRESS,), (NetworkPolicy.ISOLATED,), (NetworkPolicy.EGRESS, NetworkPolicy.ISOLATED))
SIZES = st.integers(1, 3)
CAPABILITIES = st.builds(
    Capability,
    st.sampled_from([Region("eu"), Region("us")]),
    st.sampled_from([Posture.NONE, Posture.TDX]),
    st.builds(Resources, SIZES, SIZES, SIZES, SIZES),
    st.sampled_from(NETWORKS),
    SIZES.map(Milliseconds),
)


def holds(other, one):
    return (
        (one.region, one.posture) == (other.region, other.posture)
        and set(one.networks) <= set(other.networks)
        and one.max_duration_ms <= other.max_duration_ms
        and one.ceiling.fits_in(other.ceiling)
    )


@given(st.lists(CAPABILITIES, max_size=12))
def test_the_union_is_what_no_other_one_holds(capabilities):
    expected = {one for one in capabilities if not any(one != other and holds(other, one) for other in capabilities)}
    union = capability_union(capabilities)

    assert (expected, len(expected)) == (set(union), len(union))


@given(
    st.permutations(
        [Capability(Region("eu"), Posture.NONE, Resources(a, b), NETWORKS[0]) for a, b in ((1, 2), (2, 1), (1, 1))]
    )
)
def test_the_union_has_one_order(capabilities):
    assert [(1, 2), (2, 1)] == [(one.ceiling.cpu_millis, one.ceiling.mem_mib) for one in capability_union(capabilities)]


def test_the_union_of_a_catalogue_stalls_nothing():
    sizes = [Resources(1000 * cpu, 1024 * cpu * by, 256) for cpu, by in product(range(1, 200), range(1, 9))]
    catalogue = [
        Capability(Region(f"r{region}"), Posture.NONE, size, NETWORKS[0]) for region in range(10) for size in sizes
    ]

    assert 10 == len(capability_union(catalogue))

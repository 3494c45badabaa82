"""The Merkle root: every leaf, its place and their number are in it."""

from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.model.ids import digest
from compute_bridge.wire.merkle import EMPTY_ROOT, leaf_hash, root

_LEAVES = st.lists(st.binary(max_size=8), max_size=20)


def by_definition(leaves: list[bytes]) -> bytes:
    """Return the root as the definition has it, from the top: split after the largest power of two below."""
    if not leaves:
        return digest("compute-bridge/merkle-empty/v1")
    if len(leaves) == 1:
        return digest("compute-bridge/merkle-leaf/v1", leaves[0])
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return digest("compute-bridge/merkle-node/v1", by_definition(leaves[:left]), by_definition(leaves[left:]))


@given(_LEAVES)
def test_the_root_is_that_of_the_definition(leaves):
    assert by_definition(leaves) == root(leaves)


@given(_LEAVES, _LEAVES)
def test_other_leaves_have_another_root(one, other):
    assert (one == other) == (root(one) == root(other))


def test_no_leaves_have_a_root_of_their_own():
    assert EMPTY_ROOT == root([]) != root([b""])


def test_no_node_passes_for_a_leaf():
    pair = leaf_hash(b"a") + leaf_hash(b"b")

    assert root([b"a", b"b"]) != root([pair])


def test_an_odd_leaf_is_not_counted_twice():
    assert root([b"a", b"b", b"c"]) != root([b"a", b"b", b"c", b"c"])

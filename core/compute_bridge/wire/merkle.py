"""A Merkle tree over byte strings, so that one 32-byte root stands for all verdicts of a round."""

from collections.abc import Sequence

from compute_bridge.model.ids import digest

EMPTY_ROOT = digest("compute-bridge/merkle-empty/v1")


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of one leaf; its own context, so that no node passes for a leaf."""
    return digest("compute-bridge/merkle-leaf/v1", leaf)


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over ``leaves`` in order; an odd node is carried up unchanged."""
    level = [leaf_hash(leaf) for leaf in leaves]
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        level = [_pair(level[at : at + 2]) for at in range(0, len(level), 2)]
    return level[0]


def _pair(nodes: list[bytes]) -> bytes:
    return nodes[0] if len(nodes) == 1 else digest("compute-bridge/merkle-node/v1", *nodes)

"""What is accepted as lost can be read again, however much it is."""

from typing import Any, cast

from compute_bridge.host.journal_check import Loss
from compute_bridge.host.journal_events import MAX_BODY
from compute_bridge.model.ids import Fingerprint, GrantId, PublicKey
from compute_bridge.wire import codec
from compute_bridge.wire.signing import Signed

BOOT = PublicKey(bytes(32))
# Of a lost log only its hash is acknowledged.
NO_LOG = cast("Any", None)


def test_every_piece_of_an_accepted_loss_can_be_read_again_and_none_is_left_out() -> None:
    grants = tuple(GrantId(number.to_bytes(32, "big")) for number in range(1201))
    hashes = tuple(Fingerprint(number.to_bytes(32, "little")) for number in range(2600))
    loss = Loss((BOOT,), grants, tuple(Signed(NO_LOG, b"", one, ()) for one in hashes))

    pieces = loss.accepted

    assert all(len(codec.encode(piece)) <= MAX_BODY for piece in pieces)
    assert (BOOT,) == sum((piece.boots for piece in pieces), ())
    assert grants == sum((piece.grants for piece in pieces), ())
    assert hashes == sum((piece.logs for piece in pieces), ())

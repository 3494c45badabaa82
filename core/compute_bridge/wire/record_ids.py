"""Under which id a record of the module stands in its stream; the same bytes under another id are a replay."""

from compute_bridge.model.almanac import AlmanacTick
from compute_bridge.model.card import CardVerdict, RosterEntry
from compute_bridge.model.channels import number
from compute_bridge.model.clearing import ClearingInputs, ClearingRecord, VerdictChunk
from compute_bridge.model.control import ControlVerdict
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.request import RequestVerdict
from compute_bridge.model.settlement import SettlementStatement
from compute_bridge.model.ticket import AdmittedRequest


def own_id(value: object) -> bytes:
    """Return the id that ``value`` has in its stream, as :mod:`compute_bridge.model.channels` tells.

    :raises LookupError: if it is no record that the module puts into a stream.
    """
    match value:
        case AlmanacTick(tick=tick):
            return number(tick)
        case ClearingRecord(round=round_) | ClearingInputs(round=round_):
            return number(round_)
        case VerdictChunk(round=round_, index=index):
            return number(round_) + number(index)
        case ComputeGrant(id=grant):
            return grant
        case ControlVerdict(grant_id=grant, sequence=sequence):
            return grant + number(sequence)
        case SettlementStatement(key=key):
            return key.grant_id + number(key.sequence)
        case _:
            return _answered(value)


def _answered(value: object) -> bytes:
    match value:
        case RequestVerdict(request_id=request):
            return request
        case AdmittedRequest(ticket=ticket):
            return ticket.request_id
        case CardVerdict(submission=card) | RosterEntry(card_hash=card):
            return card
        case _:
            raise LookupError(f"{type(value).__name__} is no record that the module puts into a stream")

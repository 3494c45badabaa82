"""The kind, version and size bound of every record: what a fingerprint or signature names first."""

from typing import Any

from attrs import frozen

from compute_bridge.model.almanac import AlmanacTick
from compute_bridge.model.card import (
    BootCertificate,
    CardVerdict,
    EpochClaim,
    ProviderCard,
    QuoteBinding,
    RosterEntry,
)
from compute_bridge.model.clearing import ClearingInputs, ClearingRecord, Verdict, VerdictChunk
from compute_bridge.model.coalition import (
    BridgeConfig,
    CoalitionConfig,
    ComputeConfig,
    Handshake,
    OrganismConfig,
)
from compute_bridge.model.control import ControlVerdict, LeaseControl
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.heartbeat import Heartbeat
from compute_bridge.model.manifest import ComputeManifest
from compute_bridge.model.notice import InterruptionNotice
from compute_bridge.model.rates import RateTable
from compute_bridge.model.receipt import SshAccessReceipt
from compute_bridge.model.reputation import Bond, Observation, ProviderReputationCard
from compute_bridge.model.request import (
    ComputeRequest,
    EnvelopeBody,
    RequestSubmission,
    RequestVerdict,
)
from compute_bridge.model.resources import Capability
from compute_bridge.model.retirement import RetirementMarker
from compute_bridge.model.settlement import Claim, SettlementStatement
from compute_bridge.model.ticket import AdmittedRequest, Ticket
from compute_bridge.model.usage import ComputeLog


@frozen
class RecordKind:
    """A record's name on the wire, the version of its fields, and the most bytes it may have."""

    name: str
    cls: type[Any]
    version: int
    max_bytes: int


KIB = 1024

RECORDS = (
    RecordKind("almanac-tick", AlmanacTick, 1, KIB),
    RecordKind("coalition-config", CoalitionConfig, 1, 64 * KIB),
    RecordKind("compute-config", ComputeConfig, 1, 8 * KIB),
    RecordKind("handshake", Handshake, 1, 80 * KIB),
    RecordKind("organism-config", OrganismConfig, 1, KIB),
    RecordKind("bridge-config", BridgeConfig, 1, KIB),
    RecordKind("capability", Capability, 1, KIB),
    RecordKind("compute-manifest", ComputeManifest, 1, 8 * KIB),
    RecordKind("compute-request", ComputeRequest, 1, 8 * KIB),
    RecordKind("request-submission", RequestSubmission, 1, 24 * KIB),
    RecordKind("request-verdict", RequestVerdict, 1, KIB),
    RecordKind("ticket", Ticket, 1, KIB),
    RecordKind("admitted-request", AdmittedRequest, 1, 24 * KIB),
    RecordKind("envelope-body", EnvelopeBody, 1, 14 * KIB),
    RecordKind("boot-certificate", BootCertificate, 1, 4 * KIB),
    RecordKind("epoch-claim", EpochClaim, 1, KIB),
    RecordKind("quote-binding", QuoteBinding, 1, 4 * KIB),
    RecordKind("rate-table", RateTable, 1, 96 * KIB),
    RecordKind("provider-card", ProviderCard, 1, 160 * KIB),
    RecordKind("card-verdict", CardVerdict, 1, 2 * KIB),
    RecordKind("roster-entry", RosterEntry, 1, 200 * KIB),
    RecordKind("clearing-inputs", ClearingInputs, 1, 240 * KIB),
    RecordKind("clearing-record", ClearingRecord, 1, 240 * KIB),
    RecordKind("verdict", Verdict, 1, KIB),
    RecordKind("verdict-chunk", VerdictChunk, 1, 64 * KIB),
    RecordKind("compute-grant", ComputeGrant, 1, 8 * KIB),
    RecordKind("ssh-access-receipt", SshAccessReceipt, 1, 14 * KIB),
    RecordKind("lease-control", LeaseControl, 1, KIB),
    RecordKind("control-verdict", ControlVerdict, 1, KIB),
    RecordKind("interruption-notice", InterruptionNotice, 1, KIB),
    RecordKind("compute-log", ComputeLog, 1, 4 * KIB),
    RecordKind("claim", Claim, 1, KIB),
    RecordKind("settlement-statement", SettlementStatement, 1, KIB),
    RecordKind("heartbeat", Heartbeat, 1, KIB),
    RecordKind("retirement-marker", RetirementMarker, 1, KIB),
    RecordKind("bond", Bond, 1, KIB),
    RecordKind("observation", Observation, 1, KIB),
    RecordKind("provider-reputation-card", ProviderReputationCard, 1, KIB),
)


_BY_CLASS = {kind.cls: kind for kind in RECORDS}


def kind_of(cls: type[Any]) -> RecordKind:
    """Return the record kind of a class.

    :raises LookupError: if the class is no record.
    """
    try:
        return _BY_CLASS[cls]
    except KeyError:
        raise LookupError(f"{cls.__name__} is not a record kind") from None

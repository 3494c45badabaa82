"""What a requester checks before it seals its envelope, and before it connects."""

import base64
import ipaddress
import re

from compute_bridge.host.card_checks import UntrustedError
from compute_bridge.host.requester_state import Winner
from compute_bridge.model.clearing import ClearingRecord
from compute_bridge.model.coalition import ComputeConfig
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import RequestId, UniqueId, grant_id, short
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.reason import Reason
from compute_bridge.model.receipt import Credential, SshAccessReceipt
from compute_bridge.model.request import ComputeRequest, EnvelopeBody
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.errors import ReceiptError

HOST_KEY_TYPE = "ssh-ed25519"
_HOST_KEY = re.compile(r"ssh-ed25519 ([A-Za-z0-9+/]{68})")
_HOST_KEY_HEAD = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN OPENSSH PRIVATE KEY-----\n([A-Za-z0-9+/=]{1,76}\n){1,64}-----END OPENSSH PRIVATE KEY-----\n"
)


def check_grant(grant: ComputeGrant, request: ComputeRequest, request_id: RequestId, module: UniqueId) -> None:
    """Return if the grant is for exactly this request, and not dearer than it allows.

    :raises UntrustedError: if anything differs from what was asked for.
    """
    faults = [
        ("id", grant.id == grant_id(request_id, module, grant.round)),
        ("request", (grant.request_id, grant.request_key) == (request_id, request.request_key)),
        ("requirements", grant.requirements == request.requirements),
        ("duration", grant.duration_ms == request.requirements.duration_ms),
        ("manifest commitment", grant.manifest_commitment == request.manifest_commitment),
        ("envelope commitment", grant.envelope_commitment == request.envelope_commitment),
        ("bearer pointer", grant.bearer_pointer == request.bearer_pointer),
        ("region", request.requirements.accepts_region(grant.region)),
        ("posture", request.requirements.accepts_posture(grant.posture)),
        ("currency", grant.currency == request.currency),
    ]
    wrong = ", ".join(name for name, holds in faults if not holds)
    if wrong:
        raise UntrustedError(f"grant {short(grant.id)} is not for our request: {wrong}", reason=Reason.GRANT_NOT_OURS)
    if grant.rate > request.max_rate:
        raise UntrustedError(
            f"grant {short(grant.id)} costs {grant.rate} micros/h, more than the {request.max_rate} we allow",
            reason=Reason.ABOVE_MAX_RATE,
        )


def check_record(record: ClearingRecord, grant: ComputeGrant, config: ComputeConfig) -> None:
    """Return if the clearing record awards the grant as it stands, by the rule and fees that were agreed.

    :raises UntrustedError: if not.
    """
    award = next((one for one in record.awards if one.grant_id == grant.id), None)
    told = award and (award.request_id, award.provider_id, award.card_hash, award.region, award.posture, award.band)
    want = (grant.request_id, grant.provider_id, grant.card_hash, grant.region, grant.posture, grant.band)
    if award is None or told != want or award.rate != grant.rate or record.round != grant.round:
        raise UntrustedError(
            f"grant {short(grant.id)}: the record of round {grant.round} does not award it as it stands",
            reason=Reason.GRANT_CLEARING,
        )
    agreed = (config.rule, config.rule_fingerprint, config.requester_fee, config.provider_fee, config.currency)
    if agreed != (record.rule, record.rule_fingerprint, record.requester_fee, record.provider_fee, record.currency):
        raise UntrustedError(
            f"round {record.round} was cleared by another rule, fee or currency than the coalition's",
            reason=Reason.GRANT_CLEARING,
        )


def check_receipt(receipt: SshAccessReceipt, grant: ComputeGrant, body: EnvelopeBody, winner: Winner) -> None:
    """Return if the receipt is for the machine that was granted, and safe to hand to ``ssh``.

    Its signature and its grant were checked as it was opened.

    :raises ReceiptError: naming everything that is wrong.
    """
    faults = [
        ("quote hash", receipt.quote_hash == winner.quote_hash),
        ("development mark", receipt.development_attestation == winner.development),
        ("posture", receipt.posture is grant.posture),
        ("image digest", _runs(receipt, body.manifest.image)),
        ("end", receipt.ends_at == receipt.started_at + grant.duration_ms),
        ("credential", _opens(receipt, body)),
        ("host", is_host(receipt.host)),
        ("user", _USER.fullmatch(receipt.user) is not None),
        ("host key", is_host_key(receipt.host_key)),
    ]
    wrong = ", ".join(name for name, holds in faults if not holds)
    if wrong:
        raise ReceiptError(f"receipt for grant {short(grant.id)}: wrong {wrong}; do not connect")


def check_not_over(receipt: SshAccessReceipt, now: UtcMs) -> None:
    """Return if the lease has not ended by our own clock.

    :raises ReceiptError: if it has.
    """
    if receipt.ends_at <= now:
        raise ReceiptError(
            f"receipt for grant {short(receipt.grant_id)}: the lease ended {now - receipt.ends_at} ms ago; "
            "compare clocks, or ask for a new machine"
        )


def is_host(host: str) -> bool:
    """Return whether ``host`` is a name or an address, and nothing that ``ssh`` could take for more."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _HOST_NAME.fullmatch(host) is not None
    return "%" not in host


def is_host_key(line: str) -> bool:
    """Return whether ``line`` is an Ed25519 public key line, without comment, in its one spelling."""
    match = _HOST_KEY.fullmatch(line)
    if match is None:
        return False
    blob = base64.b64decode(match[1], validate=True)
    return blob.startswith(_HOST_KEY_HEAD) and base64.b64encode(blob).decode() == match[1]


def _runs(receipt: SshAccessReceipt, image: ImageRef) -> bool:
    """A ``vm`` name promises no digest, so there is none to compare."""
    if not image.is_oci:
        return True
    return receipt.image_digest == bytes.fromhex(image.digest_hex) and bool(receipt.image_verifier)


def _opens(receipt: SshAccessReceipt, body: EnvelopeBody) -> bool:
    if body.ssh_key:
        return receipt.credential is Credential.REQUESTER_KEY and not receipt.private_key
    return receipt.credential is Credential.BRIDGE_MADE and _PRIVATE_KEY.fullmatch(receipt.private_key) is not None

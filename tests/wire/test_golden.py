"""The golden vectors: a changed byte anywhere on the wire changes a file here."""

import re
import runpy
from pathlib import Path

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from compute_bridge.model import channels
from compute_bridge.model.card import QuoteBinding
from compute_bridge.model.ids import Fingerprint, PublicKey, SealingKey, UniqueId
from compute_bridge.wire import codec
from compute_bridge.wire.commitment import report_data
from compute_bridge.wire.records import RECORDS
from compute_bridge.wire.sealing import X25519, SealContext, SealingSecret, unseal
from compute_bridge.wire.signing import Domain, fingerprint, open_signed

GOLDEN = Path(__file__).parent / "golden"
MADE = dict(runpy.run_path(str(GOLDEN / "make.py"))["vectors"]())
PROTOCOL = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
KINDS = [kind.name for kind in RECORDS]


def length_prefixed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def domain_of(golden):
    derived = golden("derived")
    return Domain(UniqueId(bytes.fromhex(derived["coalition"])), UniqueId(bytes.fromhex(derived["module"])))


def test_every_record_kind_has_a_vector():
    assert {f"{name}.json" for name in [*KINDS, "derived", "sealed"]} == {path.name for path in GOLDEN.glob("*.json")}


@pytest.mark.parametrize("name", MADE)
def test_the_program_still_makes_the_same_bytes(name):
    assert (GOLDEN / name).read_text(encoding="utf-8") == MADE[name], f"{name}: a byte on the wire has changed"


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.name)
def test_a_vector_decodes_to_the_value_that_it_encodes(golden, kind):
    vector = golden(kind.name)
    payload = bytes.fromhex(vector["payload"])
    value = codec.decode(payload, kind.cls, max_bytes=kind.max_bytes)

    assert payload == codec.encode(value)
    assert vector["fingerprint"] == fingerprint(value).hex()


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.name)
def test_a_signed_vector_verifies(golden, kind):
    vector = golden(kind.name)
    signer = PublicKey(bytes.fromhex(vector["signer"]))
    signed = open_signed(bytes.fromhex(vector["signed"]), kind.cls, domain_of(golden), by=signer)

    assert vector["fingerprint"] == signed.hash.hex()


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.name)
def test_a_stranger_with_the_documentation_alone_verifies_a_vector(golden, kind):
    vector, domain = golden(kind.name), domain_of(golden)
    payload = bytes.fromhex(vector["payload"])
    form, name, version, carried, [[key, algorithm, signature]] = codec.load(
        bytes.fromhex(vector["signed"]), max_bytes=10**6
    )
    message = b"compute-bridge/signed/v1\0" + codec.dump([name, version, domain.coalition, domain.module, payload])
    hashed = length_prefixed(b"compute-bridge/record/v1", name.encode(), version.to_bytes(2, "big"), payload)
    Ed25519PublicKey.from_public_bytes(key).verify(signature, message)

    assert (1, kind.name, kind.version, payload, "ed25519") == (form, name, version, carried, algorithm)
    assert vector["fingerprint"] == blake3(hashed).hexdigest()


def test_the_sealed_sample_opens(golden):
    vector = golden("sealed")
    secret = SealingSecret.from_seed(bytes.fromhex(vector["recipient_seed"]))
    context = SealContext(
        vector["kind"],
        Fingerprint(bytes.fromhex(vector["subject"])),
        vector["sequence"],
        PublicKey(bytes.fromhex(vector["sender"])),
        SealingKey(bytes.fromhex(vector["recipient"])),
    )

    assert vector["info"] == context.info(X25519).hex()
    assert vector["body"] == unseal(bytes.fromhex(vector["sealed"]), secret, context).hex()


def test_the_sealed_sample_holds_the_golden_receipt(golden):
    assert golden("ssh-access-receipt")["signed"] == golden("sealed")["body"]


def test_report_data_is_of_the_golden_binding(golden):
    payload = bytes.fromhex(golden("quote-binding")["payload"])

    assert golden("derived")["report_data"] == report_data(codec.decode(payload, QuoteBinding, max_bytes=4096)).hex()


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.name)
def test_every_record_kind_is_documented(kind):
    assert f"\n| `{kind.name}` | {kind.version} | {kind.max_bytes // 1024} KiB | " in PROTOCOL


def test_every_channel_is_documented():
    names = {value for name, value in vars(channels).items() if name.isupper()}

    assert names == set(re.findall(r"^\| (?:stream|collection) `([a-z-]+)` \|", PROTOCOL, re.M))


def test_every_context_that_is_hashed_is_documented():
    sources = (Path(__file__).parents[2] / "core" / "compute_bridge").rglob("*.py")
    wire = [path for path in sources if path.parent.name in ("wire", "model")]
    contexts = {found for path in wire for found in re.findall(r"compute-bridge/[a-z/-]+/v1", path.read_text())}

    assert contexts == {found for found in contexts if found in PROTOCOL}


def test_no_vector_shares_a_signature_with_another(golden):
    signatures = [codec.load(bytes.fromhex(golden(name)["signed"]), max_bytes=10**6)[4][0][2] for name in KINDS]

    assert len(set(signatures)) == len(KINDS)

"""The coalition operator's page and the market's file say the same."""

import re
from pathlib import Path

import pytest

from compute_bridge.adapters.boot_file import load_table
from compute_bridge.adapters.boot_settings import kind_schema
from compute_bridge_market.config import MarketFile
from compute_bridge_market.module import ModuleSecrets, make_handshake, read_anchors
from compute_bridge_market.rule import LowestRate

PAGE = (Path(__file__).parents[3] / "docs" / "coalition-operator" / "market-toml.md").read_text()
EXAMPLE = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.M | re.S)[0]
KEYS = re.findall(r"^\| `(\S+)`( †)? \|", PAGE, re.M)
SCHEMA = kind_schema(MarketFile, "")
SECRETS = ModuleSecrets.from_seeds(bytes([1] * 32), bytes([2] * 32))

# What to put in the place of each key's line of the example; what it has no line for is added at its end.
OTHER = {
    "coalition.name": 'name = "other"',
    "coalition.seed": f'seed = "{"ab" * 32}"',
    "coalition.handshake": 'handshake = "other.cbor"',
    "coalition.currency": 'currency = "EUR"',
    "network.kind": 'kind = "memory"',
    "ledger.file": 'file = "other.db"',
    "almanac.cadence_ms": "cadence_ms = 2000",
    "clearing.rule": 'rule = "other"',
    "fees.requester_bps": "requester_bps = 1",
    "fees.provider_bps": "provider_bps = 1",
    "limits.accept_within_ticks": "accept_within_ticks = 61",
    "limits.quote_max_age_ticks": "quote_max_age_ticks = 1",
    "limits.card_max_age_ticks": "card_max_age_ticks = 1",
    "limits.grace_ticks": "grace_ticks = 1",
    "limits.open_requests": "open_requests = 1",
    "attestation.tcb_statuses": 'tcb_statuses = ["UpToDate"]',
    "attestation.rejected_advisories": "rejected_advisories = []",
    "account[].name": 'name = "alicia"',
    "account[].key": f'key = "{"cd" * 32}"',
    "account[].credit_micros": "credit_micros = 1",
}


def row(spec):
    default = {None: "required", "none": "none"}.get(spec.default, f"`{spec.default}`")
    return f"{spec.holds} | {default} | {spec.help} |"


@pytest.mark.parametrize("spec", SCHEMA, ids=lambda spec: spec.key)
def test_every_key_is_described(spec):
    assert re.search(rf"^\| `{re.escape(spec.key)}`( †)? \| {re.escape(row(spec))}$", PAGE, re.M), row(spec)


def test_no_other_key_is_described():
    assert {key for key, _ in KEYS} == {spec.key for spec in SCHEMA}


def handshake(folder, text):
    path = folder / "market.toml"
    path.write_text(text)
    file = load_table(path, MarketFile)
    return make_handshake(file, SECRETS.public, LowestRate(), read_anchors(file.attestation))


def changed(key):
    """Return the example with another value of ``key``."""
    table, _, name = key.replace("[]", "").rpartition(".")
    head = f"[[{table}]]" if "[]" in key else f"[{table}]"
    before, section = EXAMPLE.split(f"{head}\n")
    body, blank, after = section.partition("\n\n")
    lines = [OTHER[key] if line.startswith(f"{name} =") else line for line in body.split("\n")]
    return f"{before}{head}\n" + "\n".join(lines) + blank + after


@pytest.mark.parametrize("key", OTHER)
def test_the_mark_tells_what_is_in_the_handshake(tmp_path, key):
    before, after = handshake(tmp_path, EXAMPLE), handshake(tmp_path, changed(key))

    assert (after != before) == bool(dict(KEYS)[key])


def test_a_development_attester_is_in_the_handshake(tmp_path):
    words = EXAMPLE.replace("[attestation]\n", '[attestation]\ndevelopment = "allow a development attester"\n')

    assert handshake(tmp_path, words) != handshake(tmp_path, EXAMPLE)
    assert dict(KEYS)["attestation.development"]


def test_an_anchor_is_in_the_handshake(tmp_path, attester):
    (tmp_path / "root.der").write_bytes(attester.anchor.root_ca_der)
    anchored = EXAMPLE.replace("[attestation]\n", '[attestation]\nanchors = [{ name = "r", file = "root.der" }]\n')

    assert handshake(tmp_path, anchored) != handshake(tmp_path, EXAMPLE)
    assert dict(KEYS)["attestation.anchors[].file"]

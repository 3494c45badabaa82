from attrs import evolve

from compute_bridge.model.units import MicrosPerHour, Milliseconds, charge
from compute_bridge_demo.account import PARTS, Account, Bid, Login

ACCOUNT = Account(
    coalition="bridge-β",
    request_id="aa" * 32,
    grant_id="bb" * 32,
    card_hash="ee" * 32,
    round=3,
    winner="cc" * 32,
    winner_bridge="bridge-south",
    bids=(
        Bid("dd" * 32, "bridge-north", 42_000, "outbid"),
        Bid("cc" * 32, "bridge-south", 35_000, "won"),
    ),
    asked="--cpu 1",
    max_rate_micros=100_000,
    backend="rack-south",
    ssh=Login("me@127.0.0.1:20500", "ssh-ed25519 AAAA", True, "sshd", "ssh", "true", 0, "done\n"),
    outcome="served",
    reason="control-applied",
    usage={
        "core_ms": {"value": 120, "source": "process-tree"},
        "gpu_ms": {"value": 0, "source": "unavailable"},
    },
    rate_micros=35_000,
    billable_ms=4_321,
    charge_micros=charge(MicrosPerHour(35_000), Milliseconds(4_321)),
    requester_fee_micros=1,
    provider_fee_micros=0,
    currency="EUR",
    verified=dict.fromkeys(PARTS, True),
    faults={},
    development_attestation=True,
)


def text(account: Account) -> str:
    return "\n".join(account.as_lines())


def test_the_account_shows_how_the_charge_is_computed():
    assert "ceil(35000 x 4321 / 3600000) = 43 micros" in text(ACCOUNT)


def test_the_account_says_who_bid_what_and_why_it_won():
    shown = text(ACCOUNT)

    assert "bridge-north  dddddddddddd  0.042000 EUR an hour  outbid" in shown
    assert "bridge-south  cccccccccccc  0.035000 EUR an hour  won round 3: the lowest rate" in shown


def test_a_figure_that_nobody_measured_is_not_shown():
    shown = text(ACCOUNT)

    assert "120 core-ms (process-tree)" in shown
    assert "GPU-ms" not in shown


def test_the_development_attester_is_never_left_out():
    assert "prove nothing about hardware" in text(ACCOUNT)


def test_an_account_with_one_part_that_does_not_hold_does_not_hold():
    assert ACCOUNT.holds
    for part in PARTS:
        assert not evolve(ACCOUNT, verified={**ACCOUNT.verified, part: False}).holds


def test_an_account_that_lacks_a_part_does_not_hold():
    verified = {part: True for part in PARTS if part != "quote"}

    assert not evolve(ACCOUNT, verified=verified).holds


def test_a_fault_is_told_with_its_part():
    account = evolve(ACCOUNT, verified={**ACCOUNT.verified, "log": False}, faults={"log": "signature: wrong"})

    assert "log       NO: signature: wrong" in text(account)


def test_the_json_holds_what_scripts_rely_on():
    told = ACCOUNT.as_json()

    assert set(told["bids"][0]) >= {"provider", "rate_micros"}
    assert set(told["ssh"]) >= {"host_key_pinned", "exit_status", "stdout"}
    assert set(told["verified"]) >= {"card", "quote", "clearing", "receipt", "log", "ledger"}

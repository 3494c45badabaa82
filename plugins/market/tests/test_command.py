"""The commands of ``compute-bridge market``, called as the host calls them."""

import json
import tomllib

import click
import pytest
from attrs import fields

from compute_bridge.cli.context import make_command_context
from compute_bridge.model.coalition import Handshake
from compute_bridge.ports.errors import BootError, BootFileError
from compute_bridge.wire import codec
from compute_bridge.wire.signing import fingerprint, public_key
from compute_bridge_market.command import market
from compute_bridge_market.config import MarketFile
from compute_bridge_market.module import INTEL_ROOT_HASH
from compute_bridge_market.opening import open_file


def run(*arguments):
    """Run one command and return its exit code."""
    return market(make_command_context([str(argument) for argument in arguments]))


@pytest.fixture
def folder(tmp_path):
    assert run("init", tmp_path / "m") == 0
    return tmp_path / "m"


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_init_writes_all_that_serving_needs(folder):
    opened = open_file(make_command_context([]), folder / "market.toml")
    handshake = codec.decode((folder / "handshake.cbor").read_bytes(), Handshake, max_bytes=100_000)

    assert handshake == opened.module.handshake
    assert getattr(handshake.coalition.compute, "content", b"") == fingerprint(handshake.compute)


def test_init_keeps_its_keys_to_itself(folder):
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder / "keys").iterdir()}

    assert modes == {"signing.key": 0o600, "sealing.key": 0o600}


def test_two_markets_are_two_coalitions(tmp_path, folder, capsys):
    run("init", tmp_path / "n")

    assert (tmp_path / "n" / "handshake.cbor").read_bytes() != (folder / "handshake.cbor").read_bytes()


def test_init_says_the_coalition(tmp_path, capsys):
    run("init", tmp_path / "m")
    opened = open_file(make_command_context([]), tmp_path / "m" / "market.toml")

    assert f"fingerprint {opened.module.domain.coalition.hex()}" in capsys.readouterr().out


def test_init_never_overwrites(folder):
    before = (folder / "market.toml").read_text()
    with pytest.raises(BootFileError, match=r"market\.toml: is there already"):
        run("init", folder)

    assert (folder / "market.toml").read_text() == before


@pytest.mark.parametrize(
    "wrong",
    [
        ["--account", "alice", "not hex", "1"],
        ["--account", "alice", "ab" * 31, "1"],
        ["--account", "Alice!", "ab" * 32, "1"],
        ["--account", "alice", "ab" * 32, "-1"],
        ["--currency", "X"],
        ["--requester-bps", "9000"],
        ["--cadence-ms", "1"],
    ],
)
def test_init_with_wrong_terms_writes_nothing(tmp_path, wrong):
    with pytest.raises(BootFileError, match="nothing was written"):
        run("init", tmp_path / "m", *wrong)

    assert not (tmp_path / "m").exists()


def test_init_says_which_account_has_no_key(tmp_path):
    with pytest.raises(BootFileError, match="--account bob: the public key must be 64 hex digits"):
        run("init", tmp_path / "m", "--account", "alice", "ab" * 32, "1", "--account", "bob", "ab" * 31, "1")


def test_init_takes_accounts_fees_and_a_development_root(tmp_path, attester, make):
    (tmp_path / "root.der").write_bytes(attester.anchor.root_ca_der)
    key = public_key(make.seed("account alice"))
    account = ["--account", "alice", key.hex(), 5_000_000]
    run("init", tmp_path / "m", "--requester-bps", 30, "--development-root", "r", tmp_path / "root.der", *account)
    module = open_file(make_command_context([]), tmp_path / "m" / "market.toml").module

    assert (module.config.requester_fee, module.accounts[key].credit_micros) == (30, 5_000_000)
    assert (module.policy.allow_development, [anchor.name for anchor in module.policy.anchors]) == (
        True,
        ["intel-sgx-root", "r"],
    )
    assert INTEL_ROOT_HASH in module.config.anchors


def test_without_other_anchors_only_intels_root_counts(folder):
    module = open_file(make_command_context([]), folder / "market.toml").module

    assert (module.config.anchors, module.config.development_attestation) == ((), False)
    assert [anchor.root_ca_der for anchor in module.policy.anchors] == [None]


def test_a_changed_fee_is_another_coalition_and_says_so(folder):
    replace(folder / "market.toml", "provider_bps = 0", "provider_bps = 5")
    with pytest.raises(BootError, match="says otherwise about provider_fee"):
        run("handshake", "--config", folder / "market.toml")


def test_a_handshake_is_replaced_only_when_told_to(folder, capsys):
    replace(folder / "market.toml", "provider_bps = 0", "provider_bps = 5")
    assert run("handshake", "--config", folder / "market.toml", "--replace") == 0
    capsys.readouterr()
    assert run("handshake", "--config", folder / "market.toml", "--json") == 0
    told = json.loads(capsys.readouterr().out)

    assert (
        told["fingerprint"] == open_file(make_command_context([]), folder / "market.toml").module.domain.coalition.hex()
    )


def test_a_new_account_is_no_change_of_the_handshake(folder):
    with (folder / "market.toml").open("a") as file:
        file.write(f'\n[[account]]\nname = "bob"\nkey = "{"cd" * 32}"\ncredit_micros = 1\n')

    assert run("handshake", "--config", folder / "market.toml") == 0


def test_a_damaged_handshake_names_the_mend(folder):
    (folder / "handshake.cbor").write_bytes(b"nonsense")
    with pytest.raises(BootError, match="market handshake"):
        run("handshake", "--config", folder / "market.toml")


def test_the_ledger_of_a_market_that_never_served_says_so(folder):
    with pytest.raises(BootError, match=r"ledger\.file: .*ledger\.db is not there"):
        run("ledger", "--config", folder / "market.toml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("cadence_ms = 1000", "cadence = 1000", "almanac.cadence: unknown key"),
        ("cadence_ms = 1000", 'cadence_ms = "1000"', "almanac.cadence_ms: must be a whole number"),
        ('signing = "file:keys/signing.key"', 'signing = "0123"', "keys.signing: must be a reference to a secret"),
        ("requester_bps = 0", "requester_bps = 9000", "fees.requester_bps"),
        ('currency = "USD"', "", "coalition.currency: must be given"),
    ],
)
def test_a_mistake_in_the_file_is_named_by_its_key(folder, old, new, said):
    replace(folder / "market.toml", old, new)
    with pytest.raises(BootFileError) as error:
        run("handshake", "--config", folder / "market.toml")

    assert said in str(error.value)


def test_all_mistakes_in_the_file_are_named_at_once(folder):
    for old, new in [("cadence_ms = 1000", "cadence = 1"), ("provider_bps = 0", "provider_bps = 1.5")]:
        replace(folder / "market.toml", old, new)
    with pytest.raises(BootFileError) as error:
        run("handshake", "--config", folder / "market.toml")

    assert {fault.key for fault in error.value.faults} == {"almanac.cadence", "fees.provider_bps"}


@pytest.mark.parametrize("content", ["", "abcd", "zz" * 32, "ab" * 16])
def test_a_key_that_is_none_is_named_and_not_shown(folder, content):
    (folder / "keys" / "signing.key").write_text(content)
    with pytest.raises(BootError, match=r"signing") as error:
        run("handshake", "--config", folder / "market.toml")

    assert not content or content not in str(error.value)


def test_an_anchor_that_cannot_be_read_is_named(folder):
    with (folder / "market.toml").open("a") as file:
        file.write('\n[attestation]\nanchors = [{ name = "gone", file = "gone.der" }]\n')
    with pytest.raises(BootError, match=r"attestation\.anchors: gone: .*gone\.der"):
        run("handshake", "--config", folder / "market.toml")


def test_a_development_anchor_needs_the_words(folder):
    with (folder / "market.toml").open("a") as file:
        file.write('\n[attestation]\nanchors = [{ name = "dev", file = "dev.der", development = true }]\n')
    with pytest.raises(BootFileError, match="allow a development attester"):
        run("handshake", "--config", folder / "market.toml")


def test_a_rule_that_nobody_installed_says_what_to_install(folder):
    replace(folder / "market.toml", 'rule = "lowest-rate"', 'rule = "vickrey"')
    with pytest.raises(BootError, match="vickrey"):
        run("handshake", "--config", folder / "market.toml")


def test_an_account_may_stand_in_the_file_once(folder):
    with (folder / "market.toml").open("a") as file:
        file.write(f'\n[[account]]\nname = "bob"\nkey = "{"cd" * 32}"\ncredit_micros = 1\n' * 2)
    with pytest.raises(BootFileError, match="bob"):
        run("handshake", "--config", folder / "market.toml")


def test_an_unknown_command_is_a_usage_error(folder):
    with pytest.raises(click.UsageError, match="No such command 'serv'"):
        run("serv")


def test_every_table_of_the_template_is_one_of_the_file(folder):
    tables = tomllib.loads((folder / "market.toml").read_text())

    assert set(tables) <= {one.metadata.get("key") or one.name for one in fields(MarketFile)}

"""``compute-bridge config``: check, show and describe, over a real file and the installed plugins."""

import json
from pathlib import Path

import pytest

from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch
from compute_bridge.model.boot import ALLOW_DEVELOPMENT
from compute_bridge.model.coalition import SCHEMA, CoalitionConfig, ComputeConfig, Handshake, OrganismRef
from compute_bridge.model.ids import Fingerprint, PublicKey, SealingKey, UniqueId
from compute_bridge.model.ticket import ClauseKind, TicketClause, TicketValidator
from compute_bridge.model.units import BasisPoints
from compute_bridge.wire.codec import encode
from compute_bridge.wire.signing import fingerprint

CANARY = "c0ffee" * 10 + "c0ff"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJSKCFNCmaRMIxrMlJAxNqmMJnkXyBeZRDyRYqYFaeQk"


def handshake() -> Handshake:
    compute = ComputeConfig(
        signing_key=PublicKey(bytes(32)),
        sealing_key=SealingKey(bytes(33)),
        currency="EUR",
        cadence_ms=1000,
        rule="lowest-rate",
        rule_fingerprint=Fingerprint(bytes(32)),
        requester_fee=BasisPoints(0),
        provider_fee=BasisPoints(0),
        accept_within_ticks=10,
        quote_max_age_ticks=10,
        card_max_age_ticks=10,
        anchors=(),
        development_attestation=True,
    )
    coalition = CoalitionConfig(
        schema=SCHEMA,
        seed=bytes(32),
        name="bridge-β",
        lattices=(),
        organisms=(),
        atlas=None,
        almanac=None,
        chronicle=None,
        compute=OrganismRef("compute", UniqueId(bytes(32)), fingerprint(compute)),
        randomness=None,
        ticket_validator=TicketValidator((TicketClause(ClauseKind.SIGNATURE, bytes(32)),)),
        successor_allowed=True,
    )
    return Handshake(coalition, compute)


FILE = f"""\
[bridge]
name = "north"
state_dir = "state"
root_key = "file:root.key"
max_leases = 4

[coalition]
handshake = "beta.handshake"
fingerprint = "{fingerprint(handshake().coalition).hex()}"

[network]
kind = "sqlite"
path = "net.sqlite"

[attestation]
source = "software"
directory = "attester"
development = "{ALLOW_DEVELOPMENT}"

[rate]
policy = "cost-plus"
margin_bps = 2000

[routing]
policy = "first-fit"

[settlement]
kind = "ledger"

[[band]]
name = "small"
floor = {{ cpu_millis = 100, mem_mib = 64 }}
ceiling = {{ cpu_millis = 4000, mem_mib = 8192 }}
slots = 2

[[backend]]
name = "rack"
kind = "baremetal"
driver = "process"
isolation = "none"
ssh_key = "env:RACK_KEY"
currency = "EUR"
cost = {{ vcpu = 1000 }}

[[backend.machine]]
name = "r1"
address = "127.0.0.1"
host_key = "{HOST_KEY}"
region = "eu-1"
cpu_millis = 8000
mem_mib = 16384
user = "root"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RACK_KEY", CANARY)
    (tmp_path / "bridge.toml").write_text(FILE)
    (tmp_path / "beta.handshake").write_bytes(encode(handshake()))
    (tmp_path / "root.key").write_text(CANARY)
    (tmp_path / "root.key").chmod(0o600)
    return tmp_path


def change(folder: Path, line: str, other: str) -> None:
    text = (folder / "bridge.toml").read_text()
    assert line in text
    (folder / "bridge.toml").write_text(text.replace(line, other))


@pytest.mark.usefixtures("folder")
def test_a_good_file_is_valid(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["config", "check"]) == Exit.OK
    assert capsys.readouterr().out.startswith("bridge.toml: valid; 2 secrets, digest ")


@pytest.mark.usefixtures("folder")
def test_a_check_reports_digest_and_plugins_as_json(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["config", "check", "--json"]) == Exit.OK
    report = json.loads(capsys.readouterr().out)

    assert report["valid"] is True
    assert len(report["digest"]) == 64
    assert "compute-bridge-rates" in report["plugins"]


@pytest.mark.usefixtures("folder")
def test_no_command_shows_a_secret(capsys: pytest.CaptureFixture[str]):
    for arguments in (["check"], ["check", "--json"], ["show"], ["show", "--origin"], ["show", "--json"]):
        assert dispatch(["config", *arguments]) == Exit.OK

    told = capsys.readouterr()
    assert CANARY not in told.out + told.err


@pytest.mark.parametrize(
    ("line", "other", "says"),
    [
        ("max_leases = 4", "max_leases = 0", "bridge.max_leases: "),
        ("margin_bps = 2000", 'margin_bps = "a lot"', "rate.margin_bps: must be a whole number"),
        ("margin_bps", "margin_bsp", 'did you mean "margin_bps"?'),
        ("mem_mib = 16384", "", "backend[0].machine[0].mem_mib: must be given"),
        ('"baremetal"', '"hetzner"', "pip install compute-bridge-hetzner"),
        ('"file:root.key"', '"file:other.key"', "bridge.root_key: secret file:"),
        ('"env:RACK_KEY"', '"env:OTHER_KEY"', "backend[0].ssh_key: secret env:OTHER_KEY"),
        ('"beta.handshake"', '"gamma.handshake"', "gamma.handshake"),
        (fingerprint(handshake().coalition).hex(), "00" * 32, "beta.handshake"),
    ],
)
def test_a_fault_makes_the_check_fail(
    folder: Path, line: str, other: str, says: str, capsys: pytest.CaptureFixture[str]
):
    change(folder, line, other)

    assert dispatch(["config", "check"]) == Exit.CONFIG
    assert says in capsys.readouterr().err


def test_faults_are_json_for_who_asks(folder: Path, capsys: pytest.CaptureFixture[str]):
    change(folder, "max_leases = 4", "max_leases = 0\nmax_lease = 1")

    assert dispatch(["config", "check", "--json"]) == Exit.CONFIG
    report = json.loads(capsys.readouterr().out)
    assert report["valid"] is False
    assert [fault["key"] for fault in report["faults"]] == ["bridge.max_lease", "bridge.max_leases"]


def test_secrets_can_be_left_unread(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "root.key").unlink()

    assert dispatch(["config", "check", "--skip-secrets"]) == Exit.OK


@pytest.mark.usefixtures("folder")
def test_every_value_is_shown_with_its_origin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COMPUTE_BRIDGE_RATE__MARGIN_BPS", "500")
    assert dispatch(["config", "show", "--origin", "--set", "bridge.name=south"]) == Exit.OK
    lines = [line.split("  # ") for line in capsys.readouterr().out.splitlines()]
    shown = {key.strip(): origin for key, origin in lines}

    assert shown['bridge.name = "south"'] == "flag --set bridge.name"
    assert shown["rate.margin_bps = 500"] == "environment COMPUTE_BRIDGE_RATE__MARGIN_BPS"
    assert shown["bridge.max_leases = 4"] == "bridge.toml"
    assert shown["backend[0].machine[0].cpu_millis = 8000"] == "bridge.toml"
    assert shown["backend[0].machine[0].port = 22"] == "default"
    assert shown['backend[0].ssh_key = "env:RACK_KEY"'] == "bridge.toml"


@pytest.mark.usefixtures("folder")
def test_values_are_json_for_who_asks(capsys: pytest.CaptureFixture[str]):
    dispatch(["config", "show", "--json"])
    plain = json.loads(capsys.readouterr().out)
    dispatch(["config", "show", "--json", "--origin"])
    with_origin = json.loads(capsys.readouterr().out)

    assert plain["bridge.name"] == "north"
    assert with_origin["bridge.name"] == {"value": "north", "origin": "bridge.toml"}


def test_the_file_may_be_named_by_flag_or_variable(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (folder / "bridge.toml").rename(folder / "other.toml")
    assert dispatch(["config", "check"]) == Exit.CONFIG
    assert dispatch(["config", "check", "--config", "other.toml"]) == Exit.OK
    monkeypatch.setenv("COMPUTE_BRIDGE_CONFIG", "other.toml")

    assert dispatch(["config", "check"]) == Exit.OK


def test_the_schema_names_every_key(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["config", "schema"]) == Exit.OK
    told = capsys.readouterr().out

    assert "bridge.max_leases: a whole number; required\n" in told
    assert "COMPUTE_BRIDGE_BRIDGE__MAX_LEASES\n" in told
    assert 'rate.below_cost: one of "refuse", "allow"; default "refuse"\n' in told


def test_the_schema_of_a_kind_is_its_plugins(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["config", "schema", "--json", "--kind", "backends/baremetal"]) == Exit.OK
    keys = {spec["key"]: spec for spec in json.loads(capsys.readouterr().out)}

    assert keys["backend[].machine[].host_key"]["default"] is None
    assert keys["backend[].machine[].port"]["default"] == "22"


@pytest.mark.parametrize(
    ("kind", "code"), [("baremetal", Exit.USAGE), ("racks/baremetal", Exit.USAGE), ("backends/none", Exit.CONFIG)]
)
def test_the_schema_of_no_kind_is_refused(kind: str, code: Exit):
    assert dispatch(["config", "schema", "--kind", kind]) == code


def test_a_new_key_is_this_users_alone_and_never_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert dispatch(["config", "new-key", "new.key"]) == Exit.OK
    key = (folder / "new.key").read_text()

    assert len(bytes.fromhex(key)) == 32
    assert (folder / "new.key").stat().st_mode & 0o777 == 0o600
    assert key.strip() not in capsys.readouterr().out
    assert dispatch(["config", "new-key", "new.key"]) == Exit.CONFIG
    assert (folder / "new.key").read_text() == key


def test_the_root_of_a_development_attester_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for _ in range(2):
        assert dispatch(["config", "new-attester", str(tmp_path / "attester"), "--root", "trial"]) == Exit.OK
    public, again = (line.split(":")[0] for line in capsys.readouterr().out.splitlines())

    assert public == again == str(tmp_path / "attester" / "trial.root.der")
    assert Path(public).read_bytes()[:1] == b"\x30"


def test_the_schema_says_the_unit_of_every_cost(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["config", "schema", "--kind", "backends/baremetal", "--json"]) == Exit.OK
    specs = json.loads(capsys.readouterr().out)

    assert [spec["key"] for spec in specs if not spec["help"]] == []

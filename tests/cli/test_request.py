"""``request`` and ``verify``: over a real network file, a market on strings, and a real SSH server."""

import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from attrs import define, field

from compute_bridge.adapters.boot_settings import kind_schema
from compute_bridge.adapters.clock import SystemClock
from compute_bridge.adapters.direct_shuffle import DirectShuffle
from compute_bridge.adapters.software_pki import DevelopmentRoot
from compute_bridge.adapters.software_quotes import SoftwareAttester
from compute_bridge.adapters.sqlite_network import open_sqlite_network
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch
from compute_bridge.cli.quantities import CPU, DURATION, MEMORY
from compute_bridge.cli.request import _request
from compute_bridge.cli.requester_file import RequesterFile
from compute_bridge.cli.verify import _verify
from compute_bridge.model import channels
from compute_bridge.model.control import ControlAction
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import Milliseconds, UtcMs, charge
from compute_bridge.testing.puppet_bridge import PuppetBridge
from compute_bridge.testing.puppet_market import PuppetMarket, puppet_handshake
from compute_bridge.wire import codec
from compute_bridge.wire.quote import parse_quote, quote_hash
from compute_bridge.wire.signing import Signed, fingerprint
from compute_bridge_baremetal.testing.sshd import RackSshd, make_key
from compute_bridge_market.rule import LowestRate

WORDS = "allow a development attester"
RAN_MS = 5000
ASKED = ("--image", "vm:host", "--max-rate", "50000", "--duration", "10m", "--cpu", "0.5", "--mem", "512MiB")

REQUESTER = """\
[coalition]
handshake = "handshake"
fingerprint = "{fingerprint}"

[network]
kind = "sqlite"
path = "net.sqlite"

[account]
key = "file:account.key"

[attestation]
development = "{words}"
anchors = [{{ name = "development", file = "root.der", development = true }}]

[store]
dir = "kept"
"""


@define
class Autopilot:
    """A market and a bridge that play along in a thread of their own, until it is told to stop."""

    folder: Path
    attester: SoftwareAttester
    receipt: dict[str, object]
    refuse: Reason | None = None
    ready: threading.Event = field(factory=threading.Event)
    _stop: threading.Event = field(factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=anyio.run, args=(self._run,), daemon=True)
        self._thread.start()
        assert self.ready.wait(20)

    def stop(self) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        async with open_sqlite_network(self.folder / "net.sqlite") as network:
            market = PuppetMarket(network, LowestRate(), puppet_handshake(LowestRate()))
            await market.tick(3)
            bridge = PuppetBridge(market, self.attester.evidence, lambda one: quote_hash(parse_quote(one.quote)))
            await bridge.enter()
            dear = PuppetBridge(market, bridge.attest, bridge.quote_hash, seed=90, vcpu_nanos=20_000_000)
            await dear.enter()
            self.ready.set()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._serve_requests, market, bridge)
                tasks.start_soon(self._answer_controls, market, bridge)
                await anyio.to_thread.run_sync(self._stop.wait)
                tasks.cancel_scope.cancel()

    async def _serve_requests(self, market: PuppetMarket, bridge: PuppetBridge) -> None:
        shuffle = DirectShuffle(market.network)
        async with anyio.create_task_group() as tasks:
            async for _ in market.network.follow(channels.INTAKE):
                await market.take_in(reason=self.refuse or Reason.ADMITTED)
                if self.refuse is None:
                    [grant] = (await market.clear()).grants
                    tasks.start_soon(self._deliver, bridge, shuffle, grant)

    async def _deliver(self, bridge: PuppetBridge, shuffle: DirectShuffle, grant: Signed[ComputeGrant]) -> None:
        await bridge.serve(shuffle, grant, UtcMs(SystemClock().utc_ms()), **self.receipt)

    async def _answer_controls(self, market: PuppetMarket, bridge: PuppetBridge) -> None:
        async for _ in market.network.follow(channels.CONTROL):
            control = await market.answer_control()
            if control.action is ControlAction.RELEASE:
                entry = await market.network.find(channels.GRANT_STREAM, control.grant_id)
                assert entry is not None
                [_, _, _, payload, _] = codec.load(entry.record, max_bytes=10**5)
                grant = codec.decode(payload, ComputeGrant, max_bytes=10**5)
                log = await bridge.log(grant, ran_ms=RAN_MS)
                await bridge.claim(grant, log)
                await market.settle(grant, log)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    handshake = puppet_handshake(LowestRate())
    (tmp_path / "handshake").write_bytes(codec.encode(handshake))
    text = REQUESTER.format(fingerprint=fingerprint(handshake.coalition).hex(), words=WORDS)
    (tmp_path / "requester.toml").write_text(text)
    assert dispatch(["request", "new-key", "account.key"]) == 0
    return tmp_path


@pytest.fixture
def autopilot(folder: Path) -> Iterator[Autopilot]:
    now_s = SystemClock().utc_ms() // 1000
    root = DevelopmentRoot.generate("development", now_s=now_s)
    assert root.anchor.root_ca_der is not None
    (folder / "root.der").write_bytes(root.anchor.root_ca_der)
    make_key(folder / "id")
    pilot = Autopilot(folder, SoftwareAttester(root, now_s=now_s), {})
    yield pilot
    pilot.stop()


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = dispatch([*arguments[:2], "--json", *arguments[2:]])
    return code, json.loads(capsys.readouterr().out)


def submitted(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code, access = told(capsys, "request", "submit", *ASKED, "--ssh-key", "id.pub", "--wait")
    assert code == 0
    told_all: dict[str, Any] = access
    return told_all


pytestmark = [pytest.mark.needs("openssh-client")]


def test_a_machine_is_asked_for_and_its_receipt_told(autopilot, capsys):
    autopilot.start()
    access = submitted(capsys)

    assert ("127.0.0.1", 2222, "root") == (access["host"], access["port"], access["user"])
    assert access["host_key"].startswith("ssh-ed25519 ")
    assert "requester-key" == access["credential"]
    assert access["development_attestation"] is True


def test_a_request_is_submitted_first_and_waited_for_later(autopilot, capsys):
    autopilot.start()
    code, request = told(capsys, "request", "submit", *ASKED, "--ssh-key", "id.pub")
    later, access = told(capsys, "request", "receipt", request["request_id"][:10])

    assert (0, "admitted", 0) == (code, request["state"], later)
    assert request["request_id"] == access["request_id"]


def test_status_tells_bids_usage_and_what_was_paid(autopilot, capsys):
    autopilot.start()
    access = submitted(capsys)
    code, released = told(capsys, "request", "release", access["request_id"])
    _, status = told(capsys, "request", "status", access["request_id"])

    assert (0, "control-applied") == (code, released["reason"])
    assert ["outbid", "won"] == sorted(one["reason"] for one in status["bids"])
    assert ("served", "released") == (status["log"]["outcome"], status["log"]["reason"])
    assert charge(access["grant"]["rate_micros"], Milliseconds(RAN_MS)) == status["settlement"]["charge_micros"]


def test_an_extension_lengthens_the_lease(autopilot, capsys):
    autopilot.start()
    access = submitted(capsys)
    _, verdict = told(capsys, "request", "extend", access["request_id"], "5m")

    assert 900_000 == verdict["duration_ms"]


def test_everything_is_verified_afterwards(autopilot, capsys):
    autopilot.start()
    access = submitted(capsys)
    dispatch(["request", "release", access["request_id"]])
    grant = access["grant"]
    audits = {
        "clearing": str(grant["round"]),
        "grant": grant["grant_id"],
        "card": grant["card_hash"],
        "receipt": access["request_id"],
        "log": grant["grant_id"],
        "ledger": grant["grant_id"],
    }
    reports = {part: told(capsys, "verify", part, subject) for part, subject in audits.items()}

    assert {part: (0, True) for part in audits} == {
        part: (code, one["verified"]) for part, (code, one) in reports.items()
    }
    assert all(one["checks"] for _, one in reports.values())


def test_people_are_told_line_by_line_and_of_a_development_attester(autopilot, capsys):
    autopilot.start()
    capsys.readouterr()
    dispatch(["request", "submit", *ASKED, "--ssh-key", "id.pub", "--wait"])
    shown = capsys.readouterr().out
    request = shown.split()[1].rstrip(":")
    dispatch(["request", "status", request])
    status = capsys.readouterr().out

    assert "DEVELOPMENT ATTESTATION" in shown
    assert f"compute-bridge request ssh {request[:12]}" in shown
    assert f"request {request}: delivered" in status


def test_a_false_record_ends_with_its_own_exit_code_and_names_the_check(autopilot, capsys):
    autopilot.start()
    access = submitted(capsys)
    (autopilot.folder / "requester.toml").write_text(
        (autopilot.folder / "requester.toml").read_text().split("[attestation]")[0]
    )
    code, report = told(capsys, "verify", "card", access["grant"]["card_hash"])

    assert Exit.ATTESTATION == code
    assert not report["verified"]
    assert ["quote"] == [check["name"] for check in report["checks"] if check["fault"]]


def test_a_request_that_the_market_refuses_says_why(autopilot, capsys):
    autopilot.refuse = Reason.CREDIT_LIMIT
    autopilot.start()
    code = dispatch(["request", "submit", *ASKED])

    assert Exit.REFUSED == code
    assert "credit-limit" in capsys.readouterr().err


def test_a_receipt_that_does_not_hold_ends_unverified(autopilot, capsys):
    autopilot.receipt = {"host": "-oProxyCommand=sh"}
    autopilot.start()
    code = dispatch(["request", "submit", *ASKED, "--ssh-key", "id.pub", "--wait"])

    assert Exit.UNVERIFIED == code
    assert "do not connect" in capsys.readouterr().err


def test_a_market_that_does_not_answer_is_not_waited_for_for_ever(autopilot, capsys):
    autopilot.start()
    autopilot.stop()
    code = dispatch(["request", "submit", *ASKED, "--timeout", "1s"])

    assert Exit.UNREACHABLE == code
    assert "nothing is lost" in capsys.readouterr().err
    assert dispatch(["request", "list"]) == 0
    assert len(capsys.readouterr().out.split()) == 1


# --- logging in -------------------------------------------------------------------------------------


@pytest.fixture
def server(folder: Path, autopilot: Autopilot) -> Iterator[RackSshd]:
    line = " ".join((folder / "id.pub").read_text().split()[:2])
    server = RackSshd(folder / "server", "127.0.0.33", line)
    server.start()
    autopilot.receipt = {
        "host": server.address, "port": server.port, "user": server.user, "host_key": server.host_key,
    }  # fmt: skip
    yield server
    server.stop()


@pytest.mark.needs("sshd")
def test_ssh_runs_a_command_on_the_machine_and_ends_with_its_status(autopilot, server, capsys):
    autopilot.start()
    access = submitted(capsys)
    good, ran = told(capsys, "request", "ssh", access["request_id"], "--", "echo hello")
    bad, failed = told(capsys, "request", "ssh", access["request_id"], "--", "exit 7")

    assert (0, "hello\n", 0) == (ran["exit_status"], ran["stdout"], good)
    assert (7, 7) == (failed["exit_status"], bad)


@pytest.mark.needs("sshd")
def test_ssh_refuses_a_machine_that_shows_another_host_key(autopilot, server, capsys):
    autopilot.start()
    access = submitted(capsys)
    server.stop()
    server.change_host_key()
    server.start()
    code, ran = told(capsys, "request", "ssh", access["request_id"], "--", "echo hello")

    assert (255, 255, "") == (code, ran["exit_status"], ran["stdout"])
    assert "Host key verification failed" in ran["stderr"]


@pytest.mark.needs("sshd")
def test_the_example_for_agents_rents_a_machine_and_gives_it_back(autopilot, server, capsys):
    page = (Path(__file__).parents[2] / "docs" / "requester" / "python-api.md").read_text()
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    for name in ("id", "id.pub"):
        (autopilot.folder / name).rename(autopilot.folder / name.replace("id", "id_ed25519"))
    autopilot.start()
    capsys.readouterr()
    anyio.run(names["main"])
    shown = capsys.readouterr().out

    assert shown.startswith("Linux ")
    assert shown.endswith(" control-applied\n")


# --- files and arguments ----------------------------------------------------------------------------


def test_a_new_key_is_for_its_owner_alone_and_is_not_overwritten(folder, capsys):
    mode = stat.S_IMODE((folder / "account.key").stat().st_mode)

    assert 0o600 == mode
    assert Exit.CONFIG == dispatch(["request", "new-key", "account.key"])
    assert "not overwritten" in capsys.readouterr().err


def test_every_fault_of_the_file_is_told_at_once(folder, capsys):
    (folder / "requester.toml").write_text('[network]\nkind = 5\n[attestation]\ndevelopment = "yes"\nanchor = 1\n')
    code = dispatch(["request", "list"])
    error = capsys.readouterr().err

    assert Exit.CONFIG == code
    for key in ("network.kind", "attestation.development", "attestation.anchor", "coalition"):
        assert key in error


@pytest.mark.parametrize(("table", "mend"), [("account", "new-key"), ("store", "store.dir")])
def test_what_a_command_needs_of_the_file_is_asked_for(folder, capsys, table, mend):
    text = (folder / "requester.toml").read_text()
    (folder / "root.der").write_bytes(b"root")
    parts = [part for part in text.split("\n\n") if not part.startswith(f"[{table}]")]
    (folder / "requester.toml").write_text("\n\n".join(parts))
    code = dispatch(["request", "submit", *ASKED])

    assert Exit.CONFIG == code
    assert mend in capsys.readouterr().err


def test_a_handshake_of_another_coalition_is_refused(folder, capsys):
    (folder / "handshake").write_bytes(codec.encode(puppet_handshake(LowestRate(), seed=bytes(32))))

    assert Exit.CONFIG == dispatch(["request", "list"])
    assert "fingerprint" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--image", "latest"),
        ("--duration", "10"),
        ("--duration", "0s"),
        ("--cpu", "0.0001"),
        ("--mem", "1.5MiB"),
        ("--region", "EU"),
        ("--max-rate", "0.5"),
        ("--tdx", "maybe"),
    ],
)
def test_a_request_that_no_market_could_take_is_a_usage_error(folder, capsys, arguments):
    (folder / "root.der").write_bytes(b"root")

    assert Exit.USAGE == dispatch(["request", "submit", *ASKED, *arguments])
    assert capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "not a key", "ssh-ed25519 !!!", "-----BEGIN OPENSSH PRIVATE KEY-----\n"])
def test_a_file_that_is_no_public_key_is_refused(folder, capsys, text):
    (folder / "root.der").write_bytes(b"root")
    (folder / "id").write_text(text)

    assert Exit.CONFIG == dispatch(["request", "submit", *ASKED, "--ssh-key", "id"])
    assert f"--ssh-key {folder / 'id'}: holds no SSH public key; name the .pub file" in capsys.readouterr().err


def test_an_account_key_that_others_may_read_is_named(folder, capsys):
    (folder / "root.der").write_bytes(b"root")
    (folder / "account.key").chmod(0o644)

    assert Exit.CONFIG == dispatch(["request", "submit", *ASKED])
    assert "account.key: secret file:" in capsys.readouterr().err


def test_an_id_of_other_length_is_a_usage_error(folder, capsys):
    assert Exit.USAGE == dispatch(["verify", "grant", "abcd"])
    assert "64 hex digits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (DURATION, "90s", 90_000),
        (DURATION, "1.5h", 5_400_000),
        (DURATION, "250ms", 250),
        (MEMORY, "2GiB", 2048),
        (MEMORY, "512", 512),
        (MEMORY, "0.5GiB", 512),
        (CPU, "0.25", 250),
    ],
)
def test_a_quantity_is_read_exactly(kind, text, value):
    assert value == kind.convert(text, None, None)


@pytest.mark.parametrize("spec", kind_schema(RequesterFile, ""), ids=lambda spec: spec.key)
def test_every_key_of_the_file_is_described(spec):
    page = (Path(__file__).parents[2] / "docs" / "requester" / "requester-toml.md").read_text()
    default = {None: "required", "none": "none"}.get(spec.default, f"`{spec.default}`")

    assert f"\n| `{spec.key}` | {spec.holds} | {default} | {spec.help} |\n" in page


@pytest.mark.parametrize(("group", "page"), [(_request, "requester/get-a-machine"), (_verify, "auditor/verify")])
def test_every_command_is_described(group, page):
    text = (Path(__file__).parents[2] / "docs" / f"{page}.md").read_text()

    for name in group.commands:
        assert f"compute-bridge {group.name} {name}" in text

"""The files of a schedule: a market that is founded once, and a folder with everything for each schedule."""

import json
import os
import shutil
from pathlib import Path

from attrs import asdict, evolve, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.adapters.boot_inputs import read_handshake
from compute_bridge.adapters.clock import SystemClock
from compute_bridge.adapters.software_root import anchor_file, create_root
from compute_bridge.cli.context import make_command_context
from compute_bridge.model.boot import ALLOW_DEVELOPMENT
from compute_bridge.model.coalition import Handshake
from compute_bridge.model.quote import INTEL_ANCHOR, QuotePolicy, TrustAnchor
from compute_bridge.wire import codec
from compute_bridge.wire.signing import fingerprint, public_key
from compute_bridge_market.command import market
from compute_bridge_market.founding import Founding, write_market
from crashkit import file_truth
from crashkit.clock import Birth
from crashkit.clouds import PAPER, Site

ROOT = "crash-root"
ACCOUNT = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
CADENCE_MS = 5_000
CREDIT = 10**12

_LIMITS = """
[limits]
accept_within_ticks = 100000
"""

_BRIDGE = """\
[bridge]
name = "crash"
state_dir = "bridge"
root_key = "file:bridge.key"
max_leases = 2
refresh_s = {refresh_s}
drain_s = {drain_s}

[coalition]
handshake = "market/handshake.cbor"
fingerprint = "{fingerprint}"

[network]
kind = "sqlite"
path = "market/network.db"

[attestation]
source = "software"
development = "{words}"
directory = "{attester}"
root = "{root}"
anchors = [{{ name = "{root}", file = "{anchor}", development = true }}]

[rate]
policy = "cost-plus"
margin_bps = 2000

[routing]
policy = "first-fit"

[settlement]
kind = "ledger"

[lease]
envelope_wait_s = {envelope_wait_s}
provision_allowance_s = {provision_allowance_s}
meter_every_s = {meter_every_s}
sweep_every_s = {sweep_every_s}
intent_window_s = {intent_window_s}

[[band]]
name = "standard"
floor = {{ cpu_millis = 1, mem_mib = 1 }}
ceiling = {{ cpu_millis = 16000, mem_mib = 65536, disk_gib = 100 }}
slots = 2

"""


@frozen
class Ground:
    """What all schedules share: the founded market's files, the attester's root, and the test-only plugin."""

    folder: Path

    @classmethod
    def lay(cls, folder: Path, *, cadence_ms: int = CADENCE_MS, currency: str = "EUR") -> "Ground":
        """Found the market in ``folder``, which is made."""
        folder.mkdir(parents=True)
        create_root(folder / "attester", ROOT, now_s=SystemClock().utc_ms() // 1000)
        file_truth.install(folder / "installed")
        ground = cls(folder)
        key = public_key(ACCOUNT).hex()
        terms = Founding(
            currency=currency,
            cadence_ms=cadence_ms,
            anchors=((ROOT, str(ground.anchor)),),
            accounts=(("alice", key, CREDIT),),
            requester_bps=100,
            provider_bps=50,
        )
        path = write_market(folder / "market", terms)
        path.write_text(path.read_text().replace("\n[attestation]", f"{_LIMITS}\n[attestation]"))
        context = make_command_context(["handshake", "--config", str(path)])
        if market(evolve(context, say=lambda _line: None)):
            raise RuntimeError(f"{path}: no handshake was written")
        return ground

    @property
    def installed(self) -> Path:
        """The folder to put on ``sys.path``, so that the plugin is installed."""
        return self.folder / "installed"

    @property
    def anchor(self) -> Path:
        """The attester's root certificate."""
        return anchor_file(self.folder / "attester", ROOT)

    @property
    def policy(self) -> QuotePolicy:
        """Whom a requester believes here."""
        anchor = TrustAnchor(ROOT, self.anchor.read_bytes(), development=True)
        return QuotePolicy(anchors=(INTEL_ANCHOR, anchor), allow_development=True)


@frozen
class Settings:
    """What differs from story to story in the bridge's boot file."""

    drain_s: int = 0
    envelope_wait_s: int = 3600
    meter_every_s: int = 3600
    window_ms: int = 0
    refresh_s: int = 600
    sweep_every_s: int = 60
    intent_window_s: int = 900
    provision_allowance_s: int = 86_400


@frozen
class Scene:
    """One schedule's folder: a market, a bridge and a cloud of its own."""

    folder: Path

    @classmethod
    def set(
        cls, folder: Path, ground: Ground, settings: Settings, faults: dict[str, int], site: Site = PAPER
    ) -> "Scene":
        """Make the folder and begin its time."""
        scene = cls(folder)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(ground.folder / "market", folder / "market")
        _secret(folder / "bridge.key", os.urandom(32).hex())
        page = (folder / "market" / "handshake.cbor").read_bytes()
        coalition = codec.decode(page, Handshake, max_bytes=len(page)).coalition
        text = _BRIDGE.format(
            fingerprint=fingerprint(coalition).hex(),
            words=ALLOW_DEVELOPMENT,
            attester=ground.folder / "attester",
            root=ROOT,
            anchor=ground.anchor,
            **asdict(settings),
        )
        table = site.table.replace("{window_ms}", str(settings.window_ms))
        (folder / "bridge.toml").write_text(text + table)
        (folder / "requester").mkdir(mode=0o700)
        (folder / "faults.json").write_text(json.dumps(faults))
        (site.birth or Birth.now(SystemClock().utc_ms(), site.speed)).write(scene.birth)
        return scene

    @property
    def birth(self) -> Path:
        """When its time began."""
        return self.folder / "birth.json"

    @property
    def faults(self) -> dict[str, int]:
        """What the bridge's journal, network and backend refuse in each life, and how often."""
        faults: dict[str, int] = json.loads((self.folder / "faults.json").read_text())
        return faults

    @property
    def boot_file(self) -> Path:
        """The bridge's."""
        return self.folder / "bridge.toml"

    @property
    def market_file(self) -> Path:
        """The market's."""
        return self.folder / "market" / "market.toml"

    @property
    def network(self) -> Path:
        """The network's file."""
        return self.folder / "market" / "network.db"

    @property
    def journal(self) -> Path:
        """The bridge's journal."""
        return self.folder / "bridge" / "bridge.journal"

    @property
    def handshake(self) -> Handshake:
        """The coalition's page."""
        path = self.folder / "market" / "handshake.cbor"
        page = path.read_bytes()
        return read_handshake(path, fingerprint(codec.decode(page, Handshake, max_bytes=len(page)).coalition))

    def points(self, life: int) -> Path:
        """Where the points of one life of the bridge are written."""
        return self.folder / f"life-{life}.points"


def _secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)

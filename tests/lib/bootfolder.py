"""A folder with all that a boot needs up to its fleet; its network is a file or this process's own."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.model.coalition import (
    CoalitionConfig,
    ComputeConfig,
    Handshake,
    OrganismRef,
)
from compute_bridge.model.ids import Fingerprint, SealingKey, UniqueId, derive
from compute_bridge.model.ticket import ClauseKind, TicketClause, TicketValidator
from compute_bridge.model.units import BasisPoints
from compute_bridge.wire import codec
from compute_bridge.wire.signing import fingerprint, public_key

KEY = public_key(Ed25519PrivateKey.from_private_bytes(bytes(32)))
ROOT_SEED = b"\7" * 32

BRIDGE = """
[bridge]
name = "north"
state_dir = "state"
root_key = "file:root.key"
max_leases = 2
[coalition]
handshake = "handshake"
fingerprint = "{fingerprint}"
[network]
{network}
[attestation]
source = "software"
directory = "attester"
development = "allow a development attester"
[rate]
policy = "cost-plus"
margin_bps = 1000
[routing]
policy = "first-fit"
[settlement]
kind = "ledger"
[[band]]
name = "small"
floor = {{ cpu_millis = 1, mem_mib = 1 }}
ceiling = {{ cpu_millis = 1000, mem_mib = 1024 }}
slots = 1
[[backend]]
name = "rack"
kind = "baremetal"
driver = "process"
isolation = "none"
ssh_key = "file:rack.key"
currency = "EUR"
cost = {{ vcpu = 1000000 }}
[[backend.machine]]
name = "r1"
address = "127.0.0.1"
port = 9
host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
region = "eu-north"
cpu_millis = 1000
mem_mib = 1024
"""


def handshake(*, provider_fee: int = 0) -> Handshake:
    """Return the handshake of the coalition that the boot file names."""
    seed = UniqueId(b"\1" * 32)
    compute = ComputeConfig(
        signing_key=KEY,
        sealing_key=SealingKey(b"\1" + bytes(32)),
        currency="EUR",
        cadence_ms=1000,
        rule="lowest-rate",
        rule_fingerprint=Fingerprint(bytes(32)),
        requester_fee=BasisPoints(0),
        provider_fee=BasisPoints(provider_fee),
        accept_within_ticks=10,
        quote_max_age_ticks=100,
        card_max_age_ticks=100,
        anchors=(),
        development_attestation=True,
    )
    coalition = CoalitionConfig(
        schema=1,
        seed=seed,
        name="bridge-β",
        lattices=(),
        organisms=(),
        atlas=None,
        almanac=None,
        chronicle=None,
        compute=OrganismRef("compute", derive(seed, "compute"), fingerprint(compute)),
        randomness=None,
        ticket_validator=TicketValidator((TicketClause(ClauseKind.SIGNATURE, KEY),)),
        successor_allowed=True,
    )
    return Handshake(coalition, compute)


def make_folder(folder: Path, network: str = 'kind = "memory"', *, provider_fee: int = 0) -> Path:
    """Make the boot file with these lines of ``[network]``, and what it points to; return the folder."""
    page = handshake(provider_fee=provider_fee)
    (folder / "handshake").write_bytes(codec.encode(page))
    (folder / "root.key").write_text(ROOT_SEED.hex() + "\n")
    (folder / "rack.key").write_text("not read before the fleet is built\n")
    for name in ("root.key", "rack.key"):
        (folder / name).chmod(0o600)
    text = BRIDGE.format(fingerprint=fingerprint(page.coalition).hex(), network=network)
    (folder / "bridge.toml").write_text(text)
    return folder

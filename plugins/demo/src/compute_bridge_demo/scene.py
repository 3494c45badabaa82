"""Every file that the demo's roles read: keys, SSH servers' settings, and one TOML file a role."""

import json
import os
import pwd
import secrets
import socket
from pathlib import Path

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.model.boot import ALLOW_DEVELOPMENT
from compute_bridge.model.ids import PublicKey
from compute_bridge.wire.keys import ssh_private_file, ssh_public_line
from compute_bridge.wire.signing import public_key
from compute_bridge_demo.templates import BRIDGE, REQUESTER, SSHD

COALITION = "bridge-β"
CURRENCY = "EUR"
CADENCE_MS = 250
CREDIT_MICROS = 5_000_000
REQUESTER_FEE_BPS = 200
PROVIDER_FEE_BPS = 100
LOOPBACK = "127.0.0.1"
ROOT = "demo-root"
BAND = "small"
REQUESTER_KEY = "requester-ssh-key.pub"
MARGIN_BPS = 2500
COST_NANOS = {"vcpu": 240_000_000, "ram_gib": 40_000_000, "disk_gib": 1_000_000}
FIXED_NANOS = {"vcpu_nanos": 360_000_000, "ram_gib_nanos": 60_000_000, "disk_gib_nanos": 1_500_000}


@frozen
class Rack:
    """One bridge and its one rack host."""

    name: str
    region: str
    rate: str
    """The lines of ``[rate]``."""
    port: int
    guest_ports: tuple[int, int]
    login_seed: bytes = field(repr=False)
    host_seed: bytes = field(repr=False)

    @property
    def bridge(self) -> str:
        """What the bridge is called."""
        return f"bridge-{self.name}"

    @property
    def host(self) -> str:
        """What the rack host is called."""
        return f"rack-{self.name}"


def draw_racks() -> tuple[Rack, Rack]:
    """Return two racks that cost the same, one selling at a fixed rate and one at cost plus a margin."""
    fixed = _table(
        "rate.row", region='"eu-north"', posture='"none"', band=f'"{BAND}"', array=True, **_numbers(FIXED_NANOS)
    )
    return (
        _draw_rack("north", "eu-north", f'policy = "fixed"\n\n{fixed}', (20_000, 20_499)),
        _draw_rack("south", "eu-south", f'policy = "cost-plus"\nmargin_bps = {MARGIN_BPS}', (20_500, 20_999)),
    )


def _draw_rack(name: str, region: str, rate: str, guest_ports: tuple[int, int]) -> Rack:
    return Rack(name, region, rate, free_port(), guest_ports, secrets.token_bytes(32), secrets.token_bytes(32))


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def login_name() -> str:
    """Return the name of the user that this process runs as."""
    return pwd.getpwuid(os.geteuid()).pw_name


# --- rack hosts -------------------------------------------------------------------------------


def write_rack_host(folder: Path, rack: Rack) -> Path:
    """Write the keys and settings of a rack host's SSH server and return its settings file."""
    home = folder / rack.host
    home.mkdir(mode=0o700)
    _write_secret(home / "host_key", ssh_private_file(rack.host_seed))
    _write_secret(home / "authorized_keys", f"{ssh_public_line(rack.login_seed)}\n")
    settings = home / "sshd_config"
    settings.write_text(SSHD.format(port=rack.port, address=LOOPBACK, home=home, user=login_name()))
    return settings


def write_guest_sshd(folder: Path, python: str) -> Path:
    """Write a command that starts the SSH server in Python, wherever that Python lies."""
    script = folder / "guest-sshd"
    quoted = python.replace("'", "'\\''")
    script.write_text(f"#!/bin/sh\nexec '{quoted}' -m compute_bridge_baremetal.guest_sshd \"$@\"\n")
    script.chmod(0o700)
    return script


# --- the roles' files -------------------------------------------------------------------------


def write_bridge(folder: Path, rack: Rack, *, fingerprint: str, guest_sshd: str) -> tuple[Path, PublicKey]:
    """Write ``<bridge>.toml`` and the keys that it names; return it and the public root key."""
    root_seed = secrets.token_bytes(32)
    _write_secret(folder / f"{rack.bridge}.root-key", root_seed.hex())
    _write_secret(folder / f"{rack.bridge}.ssh-key", ssh_private_file(rack.login_seed))
    file = folder / f"{rack.bridge}.toml"
    file.write_text(
        BRIDGE.format(
            bridge=rack.bridge,
            rack=rack.host,
            fingerprint=fingerprint,
            words=ALLOW_DEVELOPMENT,
            root=ROOT,
            rate=rack.rate,
            band=BAND,
            currency=CURRENCY,
            cost=", ".join(f"{unit} = {nanos}" for unit, nanos in COST_NANOS.items()),
            low=rack.guest_ports[0],
            high=rack.guest_ports[1],
            guest_sshd=json.dumps(guest_sshd),
            address=LOOPBACK,
            port=rack.port,
            user=login_name(),
            host_key=ssh_public_line(rack.host_seed),
            region=rack.region,
            cpu_millis=500 * (os.cpu_count() or 2),
            mem_mib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**21,
            state=folder / rack.host / "state",
        )
    )
    return file, public_key(Ed25519PrivateKey.from_private_bytes(root_seed))


def write_requester(folder: Path, account_seed: bytes, ssh_seed: bytes, *, fingerprint: str) -> Path:
    """Write ``requester.toml`` and the keys of its account and of its login."""
    _write_secret(folder / "account.key", account_seed.hex())
    _write_secret((folder / REQUESTER_KEY).with_suffix(""), ssh_private_file(ssh_seed))
    (folder / REQUESTER_KEY).write_text(f"{ssh_public_line(ssh_seed)}\n")
    file = folder / "requester.toml"
    file.write_text(REQUESTER.format(fingerprint=fingerprint, words=ALLOW_DEVELOPMENT, root=ROOT))
    return file


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _numbers(table: dict[str, int]) -> dict[str, str]:
    return {name: str(value) for name, value in table.items()}


def _table(name: str, *, array: bool, **lines: str) -> str:
    head = f"[[{name}]]" if array else f"[{name}]"
    return "\n".join([head, *(f"{key} = {value}" for key, value in lines.items())])

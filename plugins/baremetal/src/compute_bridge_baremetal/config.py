"""What the boot file may say of a rack: its machines, how they are reached, and how workloads run."""

import ipaddress
import re
from enum import StrEnum

from attrs import Attribute, field, frozen

from compute_bridge.model.boot import FilePath, SecretRef, about
from compute_bridge.model.checks import few, label, like, text, whole
from compute_bridge.model.errors import RecordError
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.rates import UnitNanos
from compute_bridge.model.resources import MAX_DURATION_MS, NetworkPolicy, Region, Resources, Zone
from compute_bridge.model.units import Milliseconds, NanosPerHour
from compute_bridge.wire.keys import require_ssh_public_line

HOST_IMAGE = "host"
"""The one ``vm:`` image of the driver ``process``: the rack host as it is."""

_PRIVATE = ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")


class Driver(StrEnum):
    """How a workload runs on a rack host."""

    PODMAN = "podman"
    PROCESS = "process"


class Isolation(StrEnum):
    """What stands between a workload and the rack host."""

    CONTAINER = "container"
    NONE = "none"


# --- checks -----------------------------------------------------------------------------------


# Whatever ends up in a command line is held to letters that no shell reads.
_command = like(r"([A-Za-z0-9._/=:@,+-]+( [A-Za-z0-9._/=:@,+-]+)*)?", "a command of plain words")
_address = like(r"[A-Za-z0-9.:-]{1,253}", "a host name or an address")


def _host_key(_owner: object, attribute: "Attribute[str]", value: str) -> None:
    try:
        require_ssh_public_line(value)
    except RecordError as error:
        raise ValueError(f"{attribute.name} is no OpenSSH public key line: {error}") from error


def _listen_address(_owner: object, attribute: "Attribute[str]", value: str) -> None:
    if value and not _is_ip(value):
        raise ValueError(f"{attribute.name} {value!r} is not an IP address")


def _labels(_owner: object, attribute: "Attribute[dict[str, str]]", value: dict[str, str]) -> None:
    for name, word in value.items():
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,63}", f"{name}") or not re.fullmatch(r"[A-Za-z0-9._-]{1,63}", word):
            raise ValueError(f"{attribute.name}.{name} must be letters, digits, '.', '_' and '-', 1 to 63 of them")


def _addresses(_owner: object, attribute: "Attribute[tuple[str, ...]]", value: tuple[str, ...]) -> None:
    for address in value:
        if not _is_ip(address) or ":" in address:
            raise ValueError(f"{attribute.name} holds {address!r}, which is no IPv4 address")


def _ranges(_owner: object, attribute: "Attribute[tuple[str, ...]]", value: tuple[str, ...]) -> None:
    for range_ in value:
        try:
            ipaddress.IPv4Network(range_)
        except ValueError as error:
            raise ValueError(f"{attribute.name} holds {range_!r}, which is no IPv4 range: {error}") from error


def _is_ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


# --- tables -----------------------------------------------------------------------------------


@frozen(kw_only=True)
class RackMachine:
    """One rack host: how it is reached, what of it is for sale, and where its guests are dialled."""

    name: str = field(validator=label, metadata=about("what the operator calls this machine; offers carry it"))
    address: str = field(validator=_address, metadata=about("where its SSH server is"))
    port: int = field(default=22, validator=whole(1, 65535), metadata=about("the SSH server's port"))
    user: str = field(
        default="root",
        validator=like(r"[A-Za-z_][A-Za-z0-9._-]{0,31}", "a login name"),
        metadata=about("who logs in; the driver podman needs root"),
    )
    host_key: str = field(
        validator=_host_key, metadata=about("its SSH host key, pinned: the line of /etc/ssh/ssh_host_ed25519_key.pub")
    )
    region: Region = field(validator=label, metadata=about("the region that its offers are in"))
    zone: Zone = field(default=Zone(""), validator=text(0, 64), metadata=about("a room or row within the region"))
    cpu_millis: int = field(validator=whole(1, 10**7), metadata=about("thousandths of a vCPU for sale"))
    mem_mib: int = field(validator=whole(1, 2**30), metadata=about("MiB of RAM for sale"))
    disk_gib: int = field(default=0, validator=whole(0, 2**24), metadata=about("GiB of disk for sale"))
    tdx: bool = field(
        default=False,
        metadata=about("whether the machine can run trust domains; neither driver starts any, so it is only checked"),
    )
    public_address: str = field(
        default="",
        validator=like(r"[A-Za-z0-9.:-]{0,253}", "a host name or an address"),
        metadata=about("where a requester dials its guests; the address, unless given"),
    )
    listen_address: str = field(
        default="",
        validator=_listen_address,
        metadata=about("the IP that guests' ports open on; the public address if that is an IP, else all"),
    )
    state_dir: str = field(
        default="/var/lib/compute-bridge",
        validator=like(r"/[A-Za-z0-9._/-]{1,180}", "an absolute path of plain letters"),
        metadata=about("the folder there in which leases and images are kept"),
    )
    labels: dict[str, str] = field(
        factory=dict, validator=_labels, hash=False, metadata=about("words of your own, put on every container")
    )

    @property
    def resources(self) -> Resources:
        """What is for sale while nothing runs."""
        return Resources(self.cpu_millis, self.mem_mib, self.disk_gib)

    @property
    def dialled(self) -> str:
        """The address in receipts."""
        return self.public_address or self.address

    @property
    def listens(self) -> str:
        """The IP that guests' ports open on; empty for all."""
        return self.listen_address or (self.dialled if _is_ip(self.dialled) else "")


@frozen(kw_only=True)
class RackImage:
    """One image that the bridge can bring to a rack host."""

    digest: str = field(metadata=about("oci@sha256:<64 hex>, the SHA-256 of the image manifest"))
    archive: FilePath = field(metadata=about("the OCI archive on this machine: podman save --format oci-archive"))

    @digest.validator
    def _is_oci(self, _attribute: object, value: str) -> None:
        if not ImageRef(value).is_oci:
            raise ValueError(f"digest {value!r} is not 'oci@sha256:<64 hex>'")


@frozen(kw_only=True)
class BaremetalConfig:
    """One rack: machines that share an SSH key, a driver, a cost and a set of images."""

    driver: Driver = field(metadata=about('podman, or process, which isolates nothing and wants isolation = "none"'))
    isolation: Isolation = field(
        default=Isolation.CONTAINER, metadata=about('container, or "none" in so many words for the driver process')
    )
    ssh_key: SecretRef = field(metadata=about("the private key that logs in to every machine"))
    currency: str = field(validator=text(3, 8), metadata=about("the currency of the cost"))
    cost: UnitNanos = field(metadata=about("what the machines cost you, in nanos an hour for each unit"))
    address_cost: NanosPerHour = field(
        default=NanosPerHour(0),
        validator=whole(0, 10**15),
        metadata=about("what a guest's public address costs you, in nanos an hour; counted once a guest"),
    )
    machines: tuple[RackMachine, ...] = field(validator=few(1, 256), metadata=about("the rack hosts", key="machine"))
    images: tuple[RackImage, ...] = field(
        default=(), validator=few(0, 256), metadata=about("the images that can be brought there", key="image")
    )
    networks: tuple[NetworkPolicy, ...] = field(
        default=(), validator=few(0, 2), metadata=about("the policies on sale; all that the driver holds, unless given")
    )
    port_range: tuple[int, ...] = field(
        default=(20000, 20999), metadata=about("first and last port for guests' SSH; reachable from outside")
    )
    max_duration_ms: Milliseconds = field(
        default=MAX_DURATION_MS, validator=whole(1, MAX_DURATION_MS), metadata=about("the longest lease sold")
    )
    podman: str = field(default="podman", validator=_command, metadata=about("the podman command, with options"))
    runtime: str = field(default="", validator=_command, metadata=about("the OCI runtime; found out, unless given"))
    pids_limit: int = field(default=512, validator=whole(16, 10**6), metadata=about("most processes of a container"))
    uid_base: int = field(
        default=1_000_000, validator=whole(65536, 2**31), metadata=about("first of the 65536 host ids of guests")
    )
    dns: tuple[str, ...] = field(
        default=(),
        validator=_addresses,
        metadata=about("resolvers of guests with egress; the rack host's, unless given"),
    )
    egress_denied: tuple[str, ...] = field(
        default=_PRIVATE, validator=_ranges, metadata=about("IPv4 ranges that no guest reaches")
    )
    guest_sshd: str = field(
        default="",
        validator=_command,
        metadata=about("what the driver process starts in place of the rack host's sshd"),
    )
    sample_ms: int = field(default=2000, validator=whole(50, 60_000), metadata=about("how often a lease is metered"))
    watch_ms: int = field(default=2000, validator=whole(10, 60_000), metadata=about("how often a rack host is listed"))

    @isolation.validator
    def _said_in_words(self, _attribute: object, value: Isolation) -> None:
        if self.driver is Driver.PROCESS and value is not Isolation.NONE:
            raise ValueError('the driver process isolates nothing: say isolation = "none" or use the driver podman')
        if self.driver is Driver.PODMAN and value is Isolation.NONE:
            raise ValueError("the driver podman isolates: leave isolation out, or use the driver process")

    @networks.validator
    def _can_be_held(self, _attribute: object, value: tuple[NetworkPolicy, ...]) -> None:
        if self.driver is Driver.PROCESS and NetworkPolicy.ISOLATED in value:
            raise ValueError("the driver process cannot hold a guest to isolated: sell egress only")

    @port_range.validator
    def _is_range(self, _attribute: object, value: tuple[int, ...]) -> None:
        if len(value) != 2 or not 1024 <= value[0] <= value[1] <= 65535:
            raise ValueError("port_range must be two ports from 1024 to 65535, the first not above the last")

    @machines.validator
    def _told_apart(self, _attribute: object, value: tuple[RackMachine, ...]) -> None:
        names = [machine.name for machine in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two machines are called {twice[0]}: give each its own name")
        if self.driver is Driver.PODMAN and any(":" in machine.listens for machine in value):
            raise ValueError("containers are reached by IPv4 only: give an IPv4 listen_address")

    @images.validator
    def _can_be_run(self, _attribute: object, value: tuple[RackImage, ...]) -> None:
        if bool(value) is not (self.driver is Driver.PODMAN):
            raise ValueError("the driver podman needs an image or more, the driver process takes none")

    @property
    def policies(self) -> tuple[NetworkPolicy, ...]:
        """The network policies on sale, in ascending order."""
        held = (NetworkPolicy.EGRESS,) if self.driver is Driver.PROCESS else tuple(NetworkPolicy)
        return tuple(sorted(self.networks or held))

    @property
    def runs_oci(self) -> bool:
        """Whether images by digest run here."""
        return self.driver is Driver.PODMAN

    @property
    def vm_images(self) -> tuple[str, ...]:
        """The ``vm:`` images that run here."""
        return () if self.runs_oci else (HOST_IMAGE,)

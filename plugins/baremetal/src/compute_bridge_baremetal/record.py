"""What a rack host remembers of a lease, as lines of the agent and as values of the port."""

import hashlib
from collections.abc import Mapping

from attrs import field, frozen

from compute_bridge.model.ids import InstanceId, OfferId, Token
from compute_bridge.model.units import UtcMs
from compute_bridge.model.usage import Figure, UsageMetrics, UsageSource
from compute_bridge.ports.backend import ExitCause, HostKeySource, Instance, InstanceExit, Order, Ownership
from compute_bridge_baremetal.config import BaremetalConfig, RackMachine
from compute_bridge_baremetal.protocol import folded, sections

Lines = Mapping[str, str]


@frozen
class Listing:
    """One answer of a rack host: its live leases, what they take, and the ends of those asked after.

    The ``dying`` are live no more, and their ends are not recorded yet.
    """

    asked: frozenset[Token]
    leases: Mapping[Token, Instance]
    cpu_millis: int
    mem_mib: int
    disk_gib: int
    ends: Mapping[Token, InstanceExit] = field(factory=dict)
    dying: frozenset[Token] = frozenset()

    def tells_end(self, token: Token) -> bool:
        """Return whether ``token`` has ended, or was never there."""
        return token not in self.leases and token not in self.dying


@frozen
class Facts:
    """What a rack host says of itself; ``unfit`` is why its driver cannot work, or nothing."""

    cpus: int
    mem_mib: int
    tdx: bool
    unfit: str


def instance_id(machine: str, token: Token) -> InstanceId:
    """Return the id by which a lease is found again: the machine's name and the whole token."""
    return InstanceId(f"{machine}/{token.hex()}")


def parse_instance_id(instance: InstanceId) -> tuple[str, Token] | None:
    """Return the machine's name and the token, or None for an id that is not one of ours."""
    machine, _, token = instance.partition("/")
    try:
        return machine, Token(bytes.fromhex(token))
    except ValueError:
        return None


# --- to the agent -----------------------------------------------------------------------------


def order_lines(order: Order, machine: RackMachine, config: BaremetalConfig) -> dict[str, str | int]:
    """Return what a rack host is told of an order, with a digest of it all: one token, one order."""
    wants = order.requirements.resources
    lines: dict[str, str | int] = {
        "token": order.token.hex(),
        "name": order.ownership.name,
        "grant_hash": order.ownership.grant_hash.hex(),
        "mac": order.ownership.mac.hex(),
        "offer": order.offer.id,
        "image": order.image.digest_hex if order.image.is_oci else order.image.name,
        "ends_at": order.ends_at,
        "cpu": wants.cpu_millis,
        "mem": wants.mem_mib,
        "disk": wants.disk_gib,
        "network": order.requirements.network.value,
        "user": order.access.user,
        "host_key": order.access.host_key,
        "authorized_key": folded(f"{order.access.authorized_key}\n"),
        "driver": config.driver.value,
    }
    digest = hashlib.sha256("\n".join(f"{key} {value}" for key, value in lines.items()).encode()).hexdigest()
    return {
        **lines,
        "order": digest,
        "host": machine.dialled,
        "listen": machine.listens,
        "host_key_private": folded(order.access.host_key_private),
    }


def limit_lines(machine: RackMachine, config: BaremetalConfig) -> dict[str, str | int]:
    """Return what the boot file says of a machine and of workloads on it."""
    return {
        "total_cpu": machine.cpu_millis,
        "total_mem": machine.mem_mib,
        "total_disk": machine.disk_gib,
        "port_low": config.port_range[0],
        "port_high": config.port_range[1],
        "sample_ms": config.sample_ms,
        "pids": config.pids_limit,
        "uid_base": config.uid_base,
        "podman": config.podman,
        "runtime": config.runtime,
        "guest_sshd": config.guest_sshd,
        "dns": " ".join(config.dns),
        "denied": " ".join(config.egress_denied),
        "labels": " ".join(f"{name}={word}" for name, word in sorted(machine.labels.items())),
    }


# --- from the agent ---------------------------------------------------------------------------


def read_instance(lines: Lines, machine: str) -> Instance:
    """Return the instance that a rack host remembers; the same function wherever one is returned."""
    token = Token(bytes.fromhex(lines["token"]))
    image = lines["image"]
    return Instance(
        id=instance_id(machine, token),
        token=token,
        ownership=Ownership(lines["name"], bytes.fromhex(lines["grant_hash"]), bytes.fromhex(lines["mac"])),
        offer=OfferId(lines["offer"]),
        host=lines["host"],
        port=int(lines["port"]),
        user=lines["user"],
        host_key=lines["host_key"],
        host_key_source=HostKeySource.INJECTED,
        started_at=UtcMs(int(lines["started_at"])),
        ends_at=UtcMs(int(lines["ends_at"])),
        image_digest=b"" if image.startswith("vm:") else bytes.fromhex(image),
    )


def read_listing(pairs: tuple[tuple[str, str], ...], machine: str, asked: frozenset[Token]) -> Listing:
    """Return the listing in a reply of the agent."""
    leases: dict[Token, Instance] = {}
    ends: dict[Token, InstanceExit] = {}
    dying: set[Token] = set()
    room: Lines = {}
    for head, name, lines in sections(pairs, "lease", "room", "ended", "dying"):
        if head == "lease":
            leases[Token(bytes.fromhex(name))] = read_instance(lines, machine)
        elif head == "ended":
            ends[Token(bytes.fromhex(name))] = read_exit(lines)
        elif head == "dying":
            dying.add(Token(bytes.fromhex(name)))
        elif head == "room":
            room = lines
    return Listing(asked, leases, int(room["cpu"]), int(room["mem"]), int(room["disk"]), ends, frozenset(dying))


def read_exit(lines: Lines) -> InstanceExit:
    """Return how a lease ended, from its tombstone."""
    return InstanceExit(ExitCause(lines["cause"]), UtcMs(int(lines["ended_at"])), lines["detail"])


def read_usage(lines: Lines) -> UsageMetrics:
    """Return the usage of a checkpoint; disk is what was allocated, for as long as it was."""
    counted = UsageSource(lines["core_source"])
    carried = UsageSource(lines["net_source"])
    wall_ms = int(lines["wall_ms"])
    return UsageMetrics(
        core_ms=Figure(int(lines["core_ms"]), counted),
        ram_mib_ms=Figure(int(lines["ram_mib_ms"]), counted),
        net_in_bytes=Figure(int(lines["net_in"]), carried),
        net_out_bytes=Figure(int(lines["net_out"]), carried),
        disk_gib_ms=Figure(int(lines["disk"]) * wall_ms, UsageSource.ALLOCATION),
        gpu_ms=Figure(0, UsageSource.ALLOCATION),
        wall_ms=Figure(wall_ms, UsageSource.BACKEND),
    )


def read_facts(lines: Lines) -> Facts:
    """Return what a rack host said of itself."""
    return Facts(int(lines["cpus"]), int(lines["mem_mib"]), lines["tdx"] == "Y", lines.get("unfit", ""))

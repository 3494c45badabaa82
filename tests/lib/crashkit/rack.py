"""A rack host of real sshd and real workloads for each schedule, its link, and what the rack host itself remembers."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from socket import inet_aton

from attrs import define, evolve, field

from compute_bridge.model.boot import SecretRef
from compute_bridge.model.resources import NetworkPolicy
from compute_bridge.ports.clock import Clock
from compute_bridge_baremetal.config import Driver
from compute_bridge_baremetal.testing.image import GuestImage, build_image
from compute_bridge_baremetal.testing.podman_world import PodmanWorld, Store, podman_world
from compute_bridge_baremetal.testing.world import RackWorld, command_lines, rack_world
from crashkit.boot_table import backend_table
from crashkit.clouds import Site
from crashkit.points import Points
from crashkit.truth import Machine

GRACE_MS = 30_000
SAMPLE_MS = 1000
WATCH_MS = 300
_PENDING = ("lose", "lose-terminate", "drop-create", "drop-terminate", "drop")
"""The levers of a rack host's gate: one that is still there when the cut is over has cut nothing."""


@define
class RackCloud:
    """One rack host. Its own clock is this machine's, so time is not hurried."""

    world: RackWorld
    site: Site = field(init=False)
    _table: str = field(factory=lambda: f"cbcut_{token_hex(8)}", init=False)

    def __attrs_post_init__(self) -> None:
        key = SecretRef(f"file:{self.world.folder / 'login_key'}")
        config = evolve(self.world.config, ssh_key=key, currency="EUR", sample_ms=SAMPLE_MS, watch_ms=WATCH_MS)
        self.site = Site(
            table=backend_table("baremetal", config, name="rack"),
            image=self.world.image().name,
            network=NetworkPolicy.EGRESS if config.driver is Driver.PROCESS else NetworkPolicy.ISOLATED,
            region=config.machines[0].region,
            speed=1,
            grace_ms=GRACE_MS,
        )

    def levers(self, _clock: Clock) -> "RackCloud":
        """Return this."""
        return self

    @property
    def _state(self) -> Path:
        return self.world.state_of(0)

    # --- the truth ------------------------------------------------------------------------------

    def machines(self) -> tuple[Machine, ...]:
        """Return every lease whose workload was started, by the rack host's folders of leases and tombstones."""
        live = [self._live(lease) for lease in self._state.glob("leases/*")]
        dead = [_dead(stone) for stone in self._state.glob("ended/*")]
        buried = {one.token for one in dead}
        return tuple([*dead, *(one for one in live if one is not None and one.token not in buried)])

    def _live(self, lease: Path) -> Machine | None:
        try:
            record, run = _lines(lease / "record"), _lines(lease / "run")
        except FileNotFoundError:
            return None  # a hold, or gone this moment
        return Machine(f"m0/{lease.name}", lease.name, record["grant_hash"], int(run["started_at"]))

    def remains(self) -> list[str]:
        """Return folders of leases, processes and ports that stand though every lease has ended."""
        folders = [path for pattern in ("leases/*", ".gone.*") for path in self._state.glob(pattern)]
        found = [f"folder {path.relative_to(self._state)}" for path in folders]
        found += [f"process {words[:200]}" for words in command_lines() if str(self._state) in words]
        sshd = self.world.sshds[0]
        found += [f"port {port}" for port in listening(sshd.address) if port != sshd.port]
        return found + self._contained()

    def _contained(self) -> list[str]:
        """Return what podman and nftables still have of this rack host's leases."""
        world = self.world
        if not isinstance(world, PodmanWorld):
            return []
        tokens = {path.name for folder in ("leases", "ended", "locks") for path in self._state.glob(f"{folder}/*")}
        names = {f"cb-{token[:24]}" for token in tokens}
        found = [f"container {name}" for one in world.store.containers() for name in one["Names"] if name in names]
        found += [f"network {name}" for name in world.store.networks() & names]
        ruleset, address = _nft("list ruleset"), world.sshds[0].address
        found += [f"firewall rule {line.strip()}" for line in ruleset.splitlines() if address in line.split()]
        # No other lease's bridge is without its interface for longer than it takes to go.
        return found + [f"fence for {name}, which is gone" for name in fenced(ruleset) if not is_interface(name)]

    # --- levers ---------------------------------------------------------------------------------

    def tap(self, points: Points) -> None:
        """Do nothing: what arrives at a rack host is not told."""

    def is_over(self) -> bool:
        """Return whether nothing is left of any lease: a keeper takes everything away."""
        return not self.remains()

    def kill_workloads(self) -> None:
        """Kill the main process of every lease, as a crash does."""
        for run in self._state.glob("leases/*/run"):
            with suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int(_lines(run)["pid"]), signal.SIGKILL)

    def cut(self, how: str) -> Callable[[], bool]:
        """Cut the link.

        ``sshd`` kills the SSH server with its sessions, ``nft`` drops every packet to and from it, ``dead`` does both
        to the sessions. ``lose-create`` and ``lose-terminate`` kill the session of that call once its work is done,
        ``drop-create`` and ``drop-terminate`` drop every packet from then on.
        """
        sshd = self.world.sshds[0]
        if how == "sshd":
            sshd.stop()
            return self._serve_again
        if how in ("nft", "dead"):
            _nft("-f -", self._rules())
            if how == "dead":
                sshd.cut()
            return self._let_through
        call, _, operation = how.partition("-")
        text = self._rules() if call == "drop" else ""
        (sshd.folder / {"lose-create": "lose"}.get(how, f"{call}-{operation}")).write_text(text)
        return self._let_through

    def _serve_again(self) -> bool:
        self.world.sshds[0].start()
        return True

    def _let_through(self) -> bool:
        folder = self.world.sshds[0].folder
        pending = [name for name in _PENDING if (folder / name).exists()]
        for name in pending:
            (folder / name).unlink()
        # The first line is for a table that is not there.
        _nft("-f -", f"add table ip {self._table}\ndelete table ip {self._table}\n")
        return not pending

    def _rules(self) -> str:
        sshd, table = self.world.sshds[0], self._table
        chain = "{ type filter hook input priority -200; policy accept; }"
        return (
            f"add table ip {table}\nadd chain ip {table} cut {chain}\n"
            f"add rule ip {table} cut ip daddr {sshd.address} tcp dport {sshd.port} drop\n"
            f"add rule ip {table} cut ip saddr {sshd.address} tcp sport {sshd.port} drop\n"
        )


def _dead(stone: Path) -> Machine:
    lines = _lines(stone)
    return Machine(
        f"m0/{stone.name}", stone.name, lines["grant_hash"], int(lines["started_at"]), int(lines["ended_at"])
    )


def _lines(path: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in path.read_text().splitlines() if " " in line)


def listening(address: str) -> list[int]:
    """Return the ports of an IPv4 address on which somebody listens, by the kernel."""
    wanted = inet_aton(address)[::-1].hex().upper()
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    heard = [row[1].split(":") for row in rows if row[3] == "0A"]
    return [int(port, 16) for at, port in heard if at == wanted]


def fenced(ruleset: str) -> list[str]:
    """Return the bridges that the fence of guests names."""
    fence = ruleset.partition("set guests {")[2].partition("}\n\t}")[0]
    return re.findall(r'"(\w+)"', fence)


def is_interface(name: str) -> bool:
    """Return whether this machine has the interface."""
    return Path("/sys/class/net", name).exists()


def _nft(words: str, text: str = "") -> str:
    command = [shutil.which("nft") or "/usr/sbin/nft", *words.split()]
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout


# --- opening ------------------------------------------------------------------------------------------


@contextmanager
def open_rack(folder: Path, _ground: Path) -> Generator[RackCloud]:
    """Run a rack host with the driver ``process`` for one schedule."""
    (folder / "rack").mkdir(parents=True)
    with rack_world(folder / "rack", machines=1) as world:
        yield from _opened(world)


@contextmanager
def open_pods(folder: Path, ground: Path) -> Generator[RackCloud]:
    """Run a rack host with the driver ``podman`` for one schedule, on the store that :func:`prepare_store` made."""
    (folder / "rack").mkdir(parents=True)
    with podman_world(folder / "rack", _store(ground), machines=1) as world:
        yield from _opened(world)


def _opened(world: RackWorld) -> Generator[RackCloud]:
    cloud = RackCloud(world)
    try:
        yield cloud
    finally:
        cloud._let_through()


@contextmanager
def prepare_store(ground: Path) -> Generator[None]:
    """Make a podman store and an image for it, which all schedules of a matrix share."""
    folder = ground / "store"
    folder.mkdir()
    image = build_image(folder)
    (folder / "digest").write_text(image.digest)
    try:
        yield
    finally:
        _store(ground).close()


def _store(ground: Path) -> Store:
    folder = ground / "store"
    return Store(folder, GuestImage(folder / "guest.tar", (folder / "digest").read_text()))

"""A rack of real SSH servers on loopback addresses, with the kit's levers."""

import asyncio
import fcntl
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import IO

from anyio import to_thread

import compute_bridge_baremetal
import compute_bridge_baremetal.backend
from compute_bridge.api import Backend, BackendContext
from compute_bridge.model.boot import SecretRef
from compute_bridge.model.ids import BackendName, InstanceId
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.rates import UnitNanos
from compute_bridge.model.resources import Region, Zone
from compute_bridge.model.units import NanosPerHour
from compute_bridge.testing.held import Held
from compute_bridge.testing.hurried_clock import HurriedClock
from compute_bridge.testing.world import (
    SupportsClockJump,
    SupportsHold,
    SupportsKill,
    SupportsLeftovers,
    SupportsLostAnswer,
    SupportsStranger,
    World,
)
from compute_bridge_baremetal.config import BaremetalConfig, Driver, Isolation, RackMachine
from compute_bridge_baremetal.hooks import open_rack
from compute_bridge_baremetal.testing.sshd import RackSshd, make_key

_CPU_MILLIS, _MEM_MIB, _DISK_GIB = 1600, 1024, 8
_STOLEN = "f" * 64
_LOOK_S = 0.01
_STARTING_S = 10


class RackWorld(
    World, SupportsClockJump, SupportsHold, SupportsKill, SupportsLeftovers, SupportsLostAnswer, SupportsStranger
):
    """Rack hosts that are all this machine, each with its own address, SSH server and state."""

    patience_s = 30.0
    moment_s = 0.1
    near_end_ms = 4000
    name = BackendName("rack-under-test")

    def __init__(self, folder: Path, *, machines: int = 2) -> None:
        # The machine's own time: leases are ended by it.
        self.clock: HurriedClock = HurriedClock(speed=1)
        self.folder = folder
        make_key(folder / "login_key")
        public = (folder / "login_key.pub").read_text().strip()
        # Addresses of its own, so that worlds of other test runs may have the same ports.
        block = f"127.{1 + secrets.randbelow(250)}.{secrets.randbelow(256)}"
        self.sshds = [RackSshd(folder / f"r{at}", f"{block}.{at + 11}", public) for at in range(machines)]
        self.user = self.sshds[0].user
        self.config = self.make_config()
        self._thieves: list[IO[str]] = []
        self._strangers: dict[InstanceId, subprocess.Popen[bytes]] = {}

    # --- the boot file --------------------------------------------------------------------------

    def make_config(self) -> BaremetalConfig:
        """Return the table that the operator of this rack would write."""
        return BaremetalConfig(
            driver=Driver.PROCESS,
            isolation=Isolation.NONE,
            ssh_key=SecretRef("file:login_key"),
            currency="USD",
            cost=UnitNanos(vcpu=NanosPerHour(10_000_000), ram_gib=NanosPerHour(2_000_000)),
            machines=tuple(self._machine(at) for at in range(len(self.sshds))),
            port_range=(22000, 22999),
            sample_ms=100,
            watch_ms=50,
        )

    def _machine(self, at: int) -> RackMachine:
        sshd = self.sshds[at]
        return RackMachine(
            name=f"m{at}",
            address=sshd.address,
            port=sshd.port,
            user=sshd.user,
            host_key=sshd.host_key,
            region=Region("loopback-1"),
            zone=Zone(f"rack-{at}"),
            cpu_millis=_CPU_MILLIS,
            mem_mib=_MEM_MIB,
            disk_gib=_DISK_GIB,
            state_dir=str(self.state_of(at)),
            labels={"machine": f"m{at}"},
        )

    # --- the world ------------------------------------------------------------------------------

    def open(self) -> AbstractAsyncContextManager[Backend]:
        """Open the rack as the host does."""
        context = BackendContext(self.name, self.clock, self._read_secret)
        return open_rack(context, self.config)

    def _read_secret(self, _reference: str) -> bytes:
        return (self.folder / "login_key").read_bytes()

    def scanned(self) -> tuple[ModuleType, ...]:
        """Return the plugin's modules but these worlds, which may block."""
        prefix = f"{compute_bridge_baremetal.__name__}."
        ours = {name: module for name, module in sys.modules.items() if name.startswith(prefix)}
        return tuple(module for name, module in sorted(ours.items()) if not name.startswith(f"{prefix}testing"))

    def image(self) -> ImageRef:
        """Return the rack host as it is."""
        return ImageRef("vm:host")

    def secrets(self) -> tuple[str, ...]:
        """Return the login key's lines."""
        lines = (self.folder / "login_key").read_text().splitlines()
        return tuple(line for line in lines if not line.startswith("-----"))

    # --- the truth ------------------------------------------------------------------------------

    def state_of(self, at: int) -> Path:
        """Return the folder in which a rack host remembers its leases."""
        return self.sshds[at].folder / "state"

    async def running(self) -> frozenset[InstanceId]:
        """Return the leases whose SSH server runs, by the machine's process table."""
        return await to_thread.run_sync(self._served) | self.strangers()

    def _served(self) -> frozenset[InstanceId]:
        pattern = re.compile(re.escape(str(self.folder)) + r"/r(\d+)/state/leases/([0-9a-f]{64})/guest/sshd_config")
        found = (pattern.search(words) for words in command_lines())
        return frozenset(InstanceId(f"m{match[1]}/{match[2]}") for match in found if match)

    async def main_process(self, instance: InstanceId) -> int:
        """Return the main process of a live lease."""
        return await to_thread.run_sync(self._pid_in, instance, "run")

    async def keeper(self, instance: InstanceId) -> int:
        """Return the process that meters a live lease and ends it on time."""
        return await to_thread.run_sync(self._pid_in, instance, "keeper")

    def _pid_in(self, instance: InstanceId, file: str) -> int:
        machine, _, token = instance.partition("/")
        path = self.state_of(int(machine[1:])) / "leases" / token / file
        deadline = time.monotonic() + _STARTING_S
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        return int(next(line.split()[1] for line in path.read_text().splitlines() if line.startswith("pid ")))

    def strangers(self) -> frozenset[InstanceId]:
        """Return the processes of the machine that no lease made."""
        return frozenset(name for name, process in self._strangers.items() if process.poll() is None)

    # --- levers ---------------------------------------------------------------------------------

    async def exhaust(self) -> None:
        """Put a hold on every machine, as if another bridge were making something large."""
        for at in range(len(self.sshds)):
            self._thieves.append(_hold_everything(self.state_of(at)))

    async def replenish(self) -> None:
        """Take the holds away."""
        self._release_holds()

    def _release_holds(self) -> None:
        while self._thieves:
            thief = self._thieves.pop()
            (Path(thief.name).parents[1] / "leases" / _STOLEN / "record").unlink()
            (Path(thief.name).parents[1] / "leases" / _STOLEN).rmdir()
            thief.close()

    async def refuse_credentials(self) -> None:
        """Take the key out of every authorized_keys, and end its sessions."""
        for sshd in self.sshds:
            await to_thread.run_sync(sshd.refuse_key)

    async def accept_credentials(self) -> None:
        """Put the key back."""
        for sshd in self.sshds:
            await to_thread.run_sync(sshd.accept_key)

    async def go_down(self) -> None:
        """Stop the rack hosts' SSH servers; the guests' own go on."""
        for sshd in self.sshds:
            await to_thread.run_sync(sshd.stop)

    async def come_back(self) -> None:
        """Start them again."""
        for sshd in self.sshds:
            await to_thread.run_sync(sshd.start)

    async def kill(self, instance: InstanceId) -> None:
        """Kill the workload's main process."""
        os.kill(await self.main_process(instance), signal.SIGKILL)

    async def jump_clock(self, ms: int) -> None:
        """Set the bridge's clock wrong; the rack hosts count by their uptime."""
        self.clock.jump_utc(ms)

    async def leftovers(self) -> frozenset[str]:
        """Return the folders of leases, and the keepers and parents of workloads."""
        return await to_thread.run_sync(self._left)

    def _left(self) -> frozenset[str]:
        folders = {str(path) for at in range(len(self.sshds)) for path in self.state_of(at).glob("leases/*")}
        pattern = re.compile(re.escape(str(self.folder)) + r"/r\d+/state (keep|serve) [0-9a-f]{64}")
        found = (pattern.search(words) for words in command_lines())
        return frozenset(folders | {match[0] for match in found if match})

    async def kill_keeper(self, instance: InstanceId) -> None:
        """Kill the process that would end the lease on time."""
        os.kill(await self.keeper(instance), signal.SIGKILL)

    async def hold_next_create(self) -> Held:
        """Stop the next workload's SSH server with a signal before its create has answered."""
        held = _StoppedProcess([sshd.folder for sshd in self.sshds])
        held.look()
        return held

    async def lose_next_answer(self) -> None:
        """Cut the connection of the next create once its machine exists."""
        for sshd in self.sshds:
            (sshd.folder / "lose").touch()

    async def start_stranger(self) -> InstanceId:
        """Start a process of somebody else's."""
        stranger = InstanceId(f"m0/{secrets.token_hex(32)}")
        command = [shutil.which("sleep") or "sleep", "1000"]
        self._strangers[stranger] = await to_thread.run_sync(subprocess.Popen, command)
        return stranger

    # --- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the rack hosts."""
        for sshd in self.sshds:
            sshd.start()

    def clean(self) -> None:
        """End every lease on the machines themselves, then the rack hosts."""
        self._release_holds()
        for process in self._strangers.values():
            process.kill()
            process.wait()
        for sshd in self.sshds:
            sshd.stop()
        for at in range(len(self.sshds)):
            _end_all(self.state_of(at))


@contextmanager
def rack_world(folder: Path, *, machines: int = 2) -> Generator[RackWorld]:
    """Run a rack for one test; afterwards nothing of it runs."""
    world = RackWorld(folder, machines=machines)
    world.start()
    try:
        yield world
    finally:
        world.clean()


class _StoppedProcess(Held):
    """A workload that the gate of a rack host has stopped."""

    def __init__(self, folders: list[Path]) -> None:
        super().__init__()
        self._folders = folders
        self._pid = 0
        for folder in folders:
            (folder / "hold").touch()

    def look(self) -> None:
        """See whether a gate has stopped one; if not, look again soon."""
        for folder in self._folders:
            with suppress(FileNotFoundError):
                self._pid = int((folder / "held").read_text())
        if not self._pid:
            asyncio.get_running_loop().call_later(_LOOK_S, self.look)
            return
        for folder in self._folders:
            (folder / "hold").unlink(missing_ok=True)
        self.reached.set()

    def release(self) -> None:
        """Let it go on."""
        super().release()
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGCONT)


def command_lines() -> Generator[str]:
    """Yield the command line of every process of this machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")


def _hold_everything(state: Path) -> IO[str]:
    lease = state / "leases" / _STOLEN
    lease.mkdir(parents=True)
    (state / "locks").mkdir(exist_ok=True)
    # A hold counts for as long as somebody has its lock.
    lock = (state / "locks" / _STOLEN).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (lease / "record").write_text(f"cpu {_CPU_MILLIS}\nmem {_MEM_MIB}\ndisk {_DISK_GIB}\n")
    return lock


def _end_all(state: Path) -> None:
    agents = sorted(state.glob("agent-*.sh"))
    for lease in state.glob("leases/*"):
        request = f"token {lease.name}\nattempt \n.\n".encode()
        command = ["sh", str(agents[0]), str(state), "terminate"]
        subprocess.run(command, input=request, stdout=subprocess.DEVNULL, check=True)  # noqa: S603 - every word is ours

"""A rack whose workloads are real rootful containers, in a store of their own."""

import json
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyio import to_thread
from attrs import evolve, frozen

from compute_bridge.model.boot import FilePath
from compute_bridge.model.ids import InstanceId
from compute_bridge.model.manifest import ImageRef
from compute_bridge_baremetal.config import BaremetalConfig, Driver, Isolation, RackImage
from compute_bridge_baremetal.testing.image import GuestImage
from compute_bridge_baremetal.testing.world import RackWorld


@frozen
class Store:
    """Where podman keeps images and containers; shared by the worlds of one test run."""

    folder: Path
    image: GuestImage

    @property
    def command(self) -> str:
        """The podman command with this store's options."""
        # The networks stay where all podmans of a machine look, or two of them would take the same bridge.
        return f"podman --root {self.folder}/root --runroot {self.folder}/run"

    def podman(self, *words: str) -> str:
        """Return what podman says."""
        command = [*self.command.split(), *_HERE, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - ours

    def close(self) -> None:
        """Remove what podman leaves mounted, so that the folder can be removed."""
        command = [shutil.which("umount") or "umount", "--lazy", str(self.folder / "root/overlay")]
        subprocess.run(command, check=False, stderr=subprocess.DEVNULL)  # noqa: S603 - every word is ours

    def containers(self) -> list[dict[str, Any]]:
        """Return every container, running or not."""
        return list(json.loads(self.podman("ps", "--all", "--format", "json")))

    def networks(self) -> frozenset[str]:
        """Return the networks of leases, whichever podman of this machine made them."""
        return frozenset(self.podman("network", "ls", "--quiet", "--filter", "label=compute-bridge.token").split())


# What podman needs where systemd is not PID 1; elsewhere it does no harm.
_HERE = ("--cgroup-manager", "cgroupfs", "--events-backend", "file")


class PodmanWorld(RackWorld):
    """The same rack hosts, with the driver ``podman``."""

    near_end_ms = 6000

    def __init__(self, folder: Path, store: Store, *, machines: int = 2) -> None:
        self.store = store
        super().__init__(folder, machines=machines)
        self.user = "guest"

    def make_config(self) -> BaremetalConfig:
        """Return the same table with the other driver and its image."""
        image = self.store.image
        return evolve(
            super().make_config(),
            driver=Driver.PODMAN,
            isolation=Isolation.CONTAINER,
            images=(RackImage(digest=f"oci@sha256:{image.digest}", archive=FilePath(str(image.archive))),),
            podman=self.store.command,
            pids_limit=64,
        )

    def image(self) -> ImageRef:
        """Return the small guest image."""
        return ImageRef(f"oci@sha256:{self.store.image.digest}")

    async def running(self) -> frozenset[InstanceId]:
        """Return the leases that have a container, by podman's own list; and strangers."""
        containers = await to_thread.run_sync(self.store.containers)
        labels = [container["Labels"] or {} for container in containers]
        ours = {
            InstanceId(f"{label['compute-bridge.machine.machine']}/{label['compute-bridge.token']}")
            for label in labels
            if "compute-bridge.token" in label
        }
        return frozenset(ours) | self.strangers()

    async def leftovers(self) -> frozenset[str]:
        """Return also the networks of leases."""
        networks = await to_thread.run_sync(self.store.networks)
        states = [self.state_of(at) for at in range(len(self.sshds))]
        tokens = {
            path.name for state in states for folder in ("leases", "ended") for path in (state / folder).glob("*")
        }
        # Another test run's networks stand beside ours.
        ours = {f"cb-{token[:24]}" for token in tokens}
        return await super().leftovers() | (networks & ours)

    def share_image(self) -> None:
        """Tell the rack hosts of an image that the store has had verified by another world before."""
        marks = self.store.folder / "verified"
        for at in range(len(self.sshds)):
            if marks.is_dir():
                shutil.copytree(marks, self.state_of(at) / "images", dirs_exist_ok=True)

    def keep_image(self) -> None:
        """Keep for later worlds what this one has had verified."""
        for at in range(len(self.sshds)):
            for mark in (self.state_of(at) / "images").glob("[0-9a-f]*"):
                (self.store.folder / "verified").mkdir(exist_ok=True)
                shutil.copy(mark, self.store.folder / "verified")


@contextmanager
def podman_world(folder: Path, store: Store, *, machines: int = 2) -> Generator[PodmanWorld]:
    """Run a rack of containers for one test; afterwards nothing of it runs."""
    world = PodmanWorld(folder, store, machines=machines)
    world.share_image()
    world.start()
    try:
        yield world
        world.keep_image()
    finally:
        world.clean()

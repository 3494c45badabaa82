"""What every test of this plugin stands on."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from compute_bridge_baremetal.testing.image import build_image
from compute_bridge_baremetal.testing.podman_world import PodmanWorld, Store, podman_world
from compute_bridge_baremetal.testing.world import RackWorld, rack_world


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Name the one event loop: asyncssh needs asyncio."""
    return "asyncio"


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[RackWorld]:
    """Run two rack hosts with the driver ``process``."""
    with rack_world(tmp_path) as world:
        yield world


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    """Make a podman store, and an image for it, once; podman takes no path of more than fifty letters."""
    with TemporaryDirectory(prefix="cb-", ignore_cleanup_errors=True) as name:
        store = Store(Path(name), build_image(Path(name)))
        yield store
        store.close()


@pytest.fixture
def pods(tmp_path: Path, store: Store) -> Iterator[PodmanWorld]:
    """Run two rack hosts with the driver ``podman``."""
    with podman_world(tmp_path, store) as world:
        yield world

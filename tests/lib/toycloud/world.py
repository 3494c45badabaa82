"""The World of the toy cloud."""

from contextlib import AbstractAsyncContextManager
from secrets import token_hex
from typing import Any, ClassVar

from attrs import evolve

from compute_bridge.cloud.settings import HostKey
from compute_bridge.model.boot import SecretRef
from compute_bridge.model.ids import BackendName
from compute_bridge.model.manifest import ImageRef
from compute_bridge.ports.backend import Backend, BackendContext
from compute_bridge.ports.errors import NoCapacityError, QuotaError
from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.guests import Guests
from compute_bridge.testing.physics.toy import ZONES, ToyFacade
from compute_bridge.testing.physics.wire import WireServer
from compute_bridge.testing.physics.world import CloudWorld
from toycloud.cloud import ToySettings, open_toy


class ToyWorld(CloudWorld):
    """An account at the toy cloud, whose listings may miss a new machine for ``propagation_ms``.

    Host keys are rotated only where a test asks for it: that needs guests with a root user.
    """

    create_call, delete_call, list_call = "create", "delete", "list"
    late_failures: ClassVar = {"capacity": NoCapacityError, "quota": QuotaError}

    def __init__(self, *, propagation_ms: int = 0, host_key: HostKey = HostKey.INJECTED) -> None:
        self.propagation_ms = propagation_ms
        self.host_key = host_key
        self._changes: dict[str, Any] = {}
        super().__init__()
        self._api_key = token_hex(16)
        self._server = WireServer(ToyFacade(self.physics, self._api_key).answer)

    def make_physics(self) -> Physics:
        """Return an account whose machines have real SSH servers."""
        return Physics(self.clock, zones=ZONES, propagation_ms=self.propagation_ms, guests=Guests())

    def settings(self) -> ToySettings:
        """Return the backend's table."""
        reference = SecretRef("env:TOY_KEY")
        settings = ToySettings(
            owner="kit",
            shapes=("toy-*",),
            spot=True,
            ssh_port=2222,
            host_key=self.host_key,
            port=self._server.port,
            api_key=reference,
            window_ms=2 * self.propagation_ms,
        )
        return evolve(settings, **self._changes)

    def reconfigure(self, **changes: Any) -> None:
        """Open backends by a table with these keys changed from now on."""
        self._changes |= changes

    def open_backend(self) -> AbstractAsyncContextManager[Backend]:
        """Open another backend on this account."""
        context = BackendContext(BackendName("toy"), self.clock, lambda _: self._api_key.encode())
        return open_toy(context, self.settings())

    def image(self) -> ImageRef:
        """Return the one image."""
        return ImageRef("vm:plain")

    def secrets(self) -> tuple[str, ...]:
        """Return the API key."""
        return (self._api_key,)

    def close(self) -> None:
        """End the server and the guests."""
        self._server.close()
        super().close()
        assert not self._server.errors, self._server.errors

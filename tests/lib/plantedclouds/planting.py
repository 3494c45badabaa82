"""How a fault is planted in a cloud's plugin: each class that it is made of may be a subclass with the fault."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from anyio import to_thread
from attrs import frozen

from compute_bridge.cloud.backend import CloudBackend
from compute_bridge.model.ids import BackendName
from compute_bridge.ports.backend import Backend, BackendContext
from compute_bridge.testing.physics.world import CloudWorld
from compute_bridge_aws.account import Account, read_access
from compute_bridge_aws.cloud import AwsCloud
from compute_bridge_aws.sdk import Sdk as AwsSdk
from compute_bridge_aws.testing.world import AwsWorld
from compute_bridge_azure.cloud import AzureCloud
from compute_bridge_azure.sdk import Arm
from compute_bridge_azure.testing.world import AzureWorld
from compute_bridge_gcp.cloud import GcpCloud
from compute_bridge_gcp.sdk import Sdk as GcpSdk
from compute_bridge_gcp.testing.world import GcpWorld

AWS, GCP, AZURE = "Aws", "Gcp", "Azure"
ALL: Final = (AWS, GCP, AZURE)
_PATIENCE_S = 10.0


@frozen
class Fault:
    """A fault in one cloud: the subclasses that have it, the tests that must catch it, and words of the first one.

    ``room`` is mixed into :class:`CloudBackend`, ``cloud`` into the plugin's ``Cloud``, ``sdk`` into the slice of its
    SDK, and ``door`` into what makes AWS's calls. The words tell that it is caught for what it does.
    """

    name: str
    on: str
    caught_by: tuple[str, ...]
    says: str
    does: str
    room: type | None = None
    cloud: type | None = None
    sdk: type | None = None
    door: type | None = None
    patience_s: float = _PATIENCE_S

    @property
    def title(self) -> str:
        """What a test's name shows of it."""
        return f"{self.name}{self.on}"

    def world(self) -> CloudWorld:
        """Return a fresh cloud on which every backend has this fault."""
        world = _WORLDS[self.on](self)
        world.patience_s = self.patience_s
        return world

    def backend(self, context: BackendContext, settings: Any, cloud: Any, world: CloudWorld) -> Backend:
        """Return the backend over ``cloud``; both see the whole account, for faults that no bridge could commit."""
        backend = with_fault(CloudBackend, self.room)(context, settings, cloud)
        backend.world = cloud.world = world
        return backend  # type: ignore[no-any-return] # of a class that is made here


def with_fault(whole: type, fault: type | None) -> Any:
    """Return ``whole`` with a fault mixed in, if there is one."""
    return whole if fault is None else type(f"{fault.__name__}{whole.__name__}", (fault, whole), {})


class _Aws(AwsWorld):
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__()

    @asynccontextmanager
    async def open_backend(self) -> AsyncGenerator[Backend]:
        context = BackendContext(self.name, self.clock, self._read_secret)
        access = await to_thread.run_sync(read_access, context, self.config)
        sdk = await to_thread.run_sync(with_fault(AwsSdk, self.fault.sdk), access)
        account = with_fault(Account, self.fault.door)(context, self.config, sdk)
        yield self.fault.backend(context, self.config, with_fault(AwsCloud, self.fault.cloud)(account), self)


class _Gcp(GcpWorld):
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__()

    @asynccontextmanager
    async def open_backend(self, _config: object = None) -> AsyncGenerator[Backend]:
        context = BackendContext(BackendName("gcp-test"), self.clock, lambda _reference: self.key)
        sdk = await to_thread.run_sync(with_fault(GcpSdk, self.fault.sdk), self.config, self.key)
        cloud = with_fault(GcpCloud, self.fault.cloud)(context, self.config, sdk)
        yield self.fault.backend(context, self.config, cloud, self)


class _OverArm(AzureCloud):
    def __init__(self, context: BackendContext, config: Any, secret: str, arm: type) -> None:
        super().__init__(context, config, secret)
        self.arm.close()
        self.arm = arm(config, secret, self._hear)


class _Azure(AzureWorld):
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__()

    @asynccontextmanager
    async def open_backend(self) -> AsyncGenerator[Backend]:
        secret = self.tokens.secret
        context = BackendContext(self.name, self.clock, lambda _reference: secret.encode())
        make = with_fault(_OverArm, self.fault.cloud)
        cloud = await to_thread.run_sync(make, context, self.config, secret, with_fault(Arm, self.fault.sdk))
        try:
            yield self.fault.backend(context, self.config, cloud, self)
        finally:
            await to_thread.run_sync(cloud.arm.close)


_WORLDS: dict[str, Callable[[Fault], CloudWorld]] = {AWS: _Aws, GCP: _Gcp, AZURE: _Azure}

FAULTS: list[Fault] = []

Kind = TypeVar("Kind", bound=type)


def planted(
    *caught_by: str, says: str | dict[str, str], part: str, on: tuple[str, ...] = ALL, **more: Any
) -> Callable[[Kind], Kind]:
    """Put the class into the table, once for each cloud ``on`` which it is planted; ``says`` may differ by cloud."""

    def put(cls: Kind) -> Kind:
        for cloud in on:
            words = says if isinstance(says, str) else says[cloud]
            does = (cls.__doc__ or "").splitlines()[0]
            parts: dict[str, Any] = {part: cls, **more}
            FAULTS.append(Fault(cls.__name__, cloud, caught_by, words, does, **parts))
        return cls

    return put

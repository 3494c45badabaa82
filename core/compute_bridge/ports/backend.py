"""The backend port: one source of machines, and what is asked of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any

from attrs import field, frozen
from attrs.validators import instance_of

from compute_bridge.model.checks import label, octets, text, whole
from compute_bridge.model.ids import BackendName, InstanceId, OfferId, Token
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.rates import CostBasis
from compute_bridge.model.resources import (
    MAX_DURATION_MS,
    Capability,
    NetworkPolicy,
    Posture,
    Region,
    Requirements,
    Resources,
    Zone,
)
from compute_bridge.model.units import Milliseconds, UtcMs
from compute_bridge.model.usage import UsageMetrics
from compute_bridge.ports.clock import Clock


@frozen
class Offer:
    """One shape a backend can sell now: an instance type, or a rack host with what it has free.

    ``images`` lists the ``vm:`` names served; ``runs_oci`` says whether any ``oci@sha256:`` image is.
    ``image_verifier`` names who checks the bytes of an image before they run (``backend``, ``bridge``,
    ``nobody``).
    """

    id: OfferId = field(validator=text(1, 128))
    backend: BackendName = field(validator=label)
    region: Region = field(validator=label)
    zone: Zone = field(validator=text(0, 64))
    shape: str = field(validator=text(1, 64))
    resources: Resources
    posture: Posture
    networks: tuple[NetworkPolicy, ...]
    cost: CostBasis
    spot: bool = False
    runs_oci: bool = True
    images: tuple[str, ...] = ()
    image_verifier: str = field(default="backend", validator=text(1, 32))
    max_duration_ms: Milliseconds = field(default=MAX_DURATION_MS, validator=whole(1, MAX_DURATION_MS))

    @property
    def capability(self) -> Capability:
        """What this offer can serve, as a card would declare it."""
        return Capability(self.region, self.posture, self.resources, self.networks, self.max_duration_ms)

    def serves(self, needs: Requirements) -> bool:
        """Return whether the requirements lie within this offer; the image is asked apart."""
        return self.capability.serves(needs)

    def runs(self, image: ImageRef) -> bool:
        """Return whether this offer can run ``image``."""
        return self.runs_oci if image.is_oci else image.name.removeprefix("vm:") in self.images


class HostKeySource(StrEnum):
    """How the host key in a receipt is known, weakest first."""

    INJECTED = "injected"
    ROTATED = "rotated"
    GUEST_ATTESTED = "guest-attested"


@frozen
class KeyRotation:
    """The host key that takes the place of an injected one, and the key of the one login that puts it there.

    For a backend whose control plane sees what is injected: the private half of ``host_key`` goes to the guest over a
    session that is pinned to the injected key, and nowhere else. Spelt as in :class:`GuestAccess`.
    """

    host_key: str = field(validator=text(16, 4096))
    host_key_private: str = field(repr=False)
    login_key: str = field(validator=text(16, 4096))
    login_key_private: str = field(repr=False)


@frozen
class GuestAccess:
    """Who may log in to the instance, and the host key that it must show.

    ``authorized_key`` and ``host_key`` are OpenSSH public key lines without comment;
    ``host_key_private`` is an OpenSSH private key file, the same bytes for the same token.
    ``rotation`` is for a backend that injects the host key and then puts another in its place.
    """

    user: str = field(validator=text(1, 32))
    authorized_key: str = field(validator=text(16, 4096))
    host_key: str = field(validator=text(16, 4096))
    host_key_private: str = field(repr=False)
    rotation: KeyRotation

    def host_key_by(self, source: HostKeySource) -> str | None:
        """Return the host key that a machine shows whose key is known in this way; ``None`` if we cannot know it."""
        return {HostKeySource.INJECTED: self.host_key, HostKeySource.ROTATED: self.rotation.host_key}.get(source)


@frozen
class Ownership:
    """The tags by which we know a machine again: ours, for which order, proven by ``mac``.

    ``name`` is derived from the token; ``mac`` is HMAC(bridge secret, name, grant hash); only a holder
    of the bridge secret can make it, so a machine with a right mac is ours and no one else's.
    """

    name: str = field(validator=label)
    grant_hash: bytes = field(validator=octets(32))
    mac: bytes = field(validator=octets(32))


@frozen
class Order:
    """What a backend is asked to make. The same token always carries the same order."""

    token: Token = field(validator=octets(32))
    offer: Offer
    requirements: Requirements
    image: ImageRef
    access: GuestAccess
    ownership: Ownership
    ends_at: UtcMs = field(validator=whole(1))


@frozen
class Instance:
    """One machine serving one order, as the backend knows it.

    ``started_at`` is the backend's own record of the start. ``image_digest`` is the SHA-256 of the image
    manifest that was verified before it ran, empty for an image without one.
    """

    id: InstanceId = field(validator=text(1, 256))
    token: Token = field(validator=octets(32))
    ownership: Ownership
    offer: OfferId = field(validator=text(1, 128))
    host: str = field(validator=text(1, 253))
    port: int = field(validator=whole(1, 65535))
    user: str = field(validator=text(1, 32))
    host_key: str = field(validator=text(16, 4096))
    host_key_source: HostKeySource = field(validator=instance_of(HostKeySource))
    started_at: UtcMs = field(validator=whole(1))
    ends_at: UtcMs = field(validator=whole(1))
    image_digest: bytes = field(default=b"", validator=octets(0, 32))


class ExitCause(StrEnum):
    """Why an instance is no longer there."""

    EXITED = "exited"
    TERMINATED = "terminated"
    DEADLINE = "deadline"
    PREEMPTED = "preempted"
    LOST = "lost"


@frozen
class InstanceExit:
    """The end of an instance: why, when by the backend's record, and a detail for the operator.

    ``ended_at`` is 0 where the backend cannot tell.
    """

    cause: ExitCause
    ended_at: UtcMs = field(validator=whole())
    detail: str = field(default="", validator=text(0, 500))


class Backend(ABC):
    """One source of machines: an account, a subscription, a rack.

    What the signatures cannot say, and the conformance kit tests:

    - ``capabilities`` and ``can_satisfy`` do no I/O and agree with each other and with ``offers``, both
      ways: what is declared can be satisfied, and what can be satisfied was declared.
    - Only a :class:`~compute_bridge.ports.errors.BackendError` or a cancellation leaves a method;
      ``__cause__`` is the SDK's own error.
    - No credential appears in a repr, a message or a log line.
    - Nothing blocks the event loop: a blocking SDK call runs in a worker thread, and one that creates
      something is never abandoned on cancel.
    """

    @property
    @abstractmethod
    def name(self) -> BackendName:
        """The name that the operator gave this backend in the boot file."""

    @property
    def consistency_window_ms(self) -> Milliseconds:
        """How long after ``provision`` ``find`` and ``list_owned`` may still miss the instance."""
        return Milliseconds(0)

    @abstractmethod
    def capabilities(self) -> tuple[Capability, ...]:
        """Return what this backend can serve at all, whatever is free just now."""

    @abstractmethod
    def can_satisfy(self, needs: Requirements) -> bool:
        """Return whether these requirements lie within what is declared."""

    def reaches(self, offer: Offer) -> bool:
        """Return whether a machine that was made on ``offer`` can still be seen and ended; no I/O.

        False where the backend's table no longer names what the offer was on, such as a region or a rack host:
        nobody would know then what became of its machines, so the host refuses to start while it has any there.
        A backend whose every listing shows the whole account need not say anything.
        """
        return True

    @abstractmethod
    async def offers(self) -> tuple[Offer, ...]:
        """Return what can be sold now, each with its cost, the cost's source and ``observed_at``.

        An exhausted backend returns fewer offers or none; that is no error.

        :raises UnavailableError: if the backend does not answer; the host keeps the last offers.
        :raises CredentialsError: if the backend refuses our credentials.
        """

    @abstractmethod
    async def provision(self, order: Order) -> Instance:
        """Make the machine of ``order`` and return it ready for a login.

        Idempotent by the order's token: the same order returns the same machine, in any process, at any
        later time until it is terminated. When it raises a definite failure (capacity, quota,
        unservable) or is cancelled, nothing is left behind.

        :raises NoCapacityError: if nothing is free in the error's scope.
        :raises QuotaError: if a quota forbids it.
        :raises UnservableError: if the offer cannot serve the order (also: an image that is not there,
            or whose bytes do not match).
        :raises ThrottledError: if the backend asks to wait; the same token may be tried again.
        :raises UnavailableError: if the outcome is unknown; only ``find`` can tell.
        :raises StopFailoverError: if the attempt failed and could not be cleaned up.
        """

    @abstractmethod
    async def find(self, token: Token) -> Instance | None:
        """Return the live machine of ``token``, or None if there is none; the truth of the account."""

    @abstractmethod
    async def list_owned(self) -> tuple[Instance, ...]:
        """Return every live machine that carries our tags, whoever's bridge made it."""

    @abstractmethod
    async def watch_until_exit(self, instance: InstanceId) -> InstanceExit:
        """Return when the machine is gone, with the cause; at once for the dead.

        Cannot observe is not dead: while the backend does not answer this waits. May be cancelled.
        """

    @abstractmethod
    async def usage(self, instance: InstanceId) -> UsageMetrics:
        """Return what the machine has used so far; may be asked at any time, monotone while it lives.

        :raises UnavailableError: if the backend does not answer, or knows the machine no longer.
        """

    @abstractmethod
    async def terminate(self, instance: InstanceId) -> None:
        """End the machine and everything made for it; return when the backend shows it gone.

        A machine that is gone already, or was never ours, returns.

        :raises NotYetTerminatedError: if it is still going away; call again.
        :raises UnavailableError: if the backend does not answer.
        """


class SupportsExtend(ABC):
    """An opt-in power: the instance's own end can be moved while it runs.

    Without it an extension lasts no longer than the end that the order carried.
    """

    @abstractmethod
    async def extend(self, instance: InstanceId, ends_at: UtcMs) -> None:
        """Move the absolute end of a live instance to ``ends_at``; idempotent, never earlier than now.

        :raises UnavailableError: if the backend does not answer; the old end may stand.
        :raises UnservableError: if there is no such instance any more.
        """


class DeadMansSwitch(StrEnum):
    """What ends an instance when its bridge does not come back, strongest first.

    ``cloud-side``: something outside the guest, which whoever holds the instance cannot reach: the vendor's own
    scheduler, or a process on the rack host beside the container. ``guest-timer``: an absolute timer inside the
    guest, which a requester who is root there can stop; then the bridge at the lease's end, or the next sweep, is
    what ends the machine.
    """

    CLOUD_SIDE = "cloud-side"
    GUEST_TIMER = "guest-timer"


class SupportsDeadMansSwitch(ABC):
    """An opt-in power: each instance ends by itself shortly after its end, whether or not any bridge lives.

    The end is ``ends_at`` of the order, or what ``extend`` moved it to. It is counted by a clock of the backend's own:
    hand over how long is left, not the moment, so that neither a wrong clock of the bridge nor a jump of it afterwards
    ends anything. The instance then exits with :attr:`ExitCause.DEADLINE`, and ``terminate`` takes the switch away.

    Without this power a machine whose bridge never comes back runs until somebody ends it by hand; the bridge warns of
    that at every boot.
    """

    @property
    @abstractmethod
    def dead_mans_switch(self) -> DeadMansSwitch:
        """The strongest mechanism that every instance of this backend has; known without I/O."""

    @property
    @abstractmethod
    def dead_mans_grace_ms(self) -> Milliseconds:
        """How long after its end an instance may at most still run."""

    @property
    def dead_mans_leaves_bill(self) -> bool:
        """Whether what the switch has stopped is billed until a bridge or its operator deletes it; told at boot."""
        return False


@frozen
class BackendContext:
    """What the host hands to a backend as it opens: the operator's name for it, the clock, and a reader
    of secrets by reference (``env:NAME``, ``file:PATH``).
    """

    name: BackendName
    clock: Clock
    read_secret: Callable[[str], bytes] = field(repr=False)


@frozen
class BackendKind:
    """A type of backend: the boot file's word, the class of its table, and how one is opened."""

    kind: str = field(validator=label)
    config: type[Any]
    open: Callable[[BackendContext, Any], AbstractAsyncContextManager[Backend]]

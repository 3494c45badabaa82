"""The physics of one account: everything that is true of it, by a clock that nobody's jump reaches.

Facades call it from server threads, one for each request; a test pulls its levers from the event loop. Every method
may be called from any thread. Nothing here runs by itself: what is due has happened by the time that somebody looks.
"""

from collections.abc import Mapping, Sequence
from threading import RLock
from typing import Any

from compute_bridge.ports.clock import Clock
from compute_bridge.testing.held import Held
from compute_bridge.testing.physics.guests import Guests
from compute_bridge.testing.physics.matter import Call, Deadline, Launch, Machine, Quota, Resource, Then, Why

Zones = Mapping[str, Sequence[str]]


class Physics:
    """One account at one vendor.

    ``zones`` is the zones of each region. Times are milliseconds by ``clock``: ``boot_ms`` from the create to running,
    ``propagation_ms`` until a listing shows a new machine, ``ending_ms`` from its end until nothing is left of it,
    ``remember_ms`` for how long a listing shows it after that. ``on_guest_shutdown``, ``on_crash``, ``on_preemption``
    and ``on_failure`` say what becomes of a machine then. ``guests`` boots real SSH servers; without it a machine has
    an address that nobody listens on.
    """

    lock: RLock
    """Held in every method; a facade takes it where several calls have to see one moment."""

    def __init__(
        self,
        clock: Clock,
        *,
        zones: Zones,
        vcpu_quota: int = 10_000,
        boot_ms: int = 2000,
        propagation_ms: int = 0,
        ending_ms: int = 2000,
        remember_ms: int = 3_600_000,
        on_guest_shutdown: Then = Then.GONE,
        on_crash: Then = Then.GONE,
        on_preemption: Then = Then.GONE,
        on_failure: Then = Then.GONE,
        guests: Guests | None = None,
    ) -> None:
        raise NotImplementedError

    def now_ms(self) -> int:
        """Return the vendor's time in milliseconds of UTC."""
        raise NotImplementedError

    # --- calls ----------------------------------------------------------------------------------

    def admit(self, op: str, *, changes: bool, place: str = "") -> None:
        """Record a request; a facade calls this first, with the region or zone where the request names one.

        :raises Refusal: ``DOWN``, ``CREDENTIALS`` or ``THROTTLED``.
        """
        raise NotImplementedError

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call so far."""
        raise NotImplementedError

    def count(self, op: str = "", *, changes: bool | None = None) -> int:
        """Return how many calls there were, of one operation or of all, changing ones or not or both."""
        raise NotImplementedError

    # --- machines -------------------------------------------------------------------------------

    def launch(
        self,
        *,
        region: str,
        zone: str = "",
        shape: str,
        vcpus: int = 1,
        id: str = "",  # noqa: A002
        name: str = "",
        name_scope: str | None = None,
        token: str = "",
        digest: str = "",
        spot: bool = False,
        tags: Mapping[str, str] | None = None,
        document: Mapping[str, Any] | None = None,
        user_data: bytes = b"",
        on_guest_shutdown: Then | None = None,
        deadline: Deadline | None = None,
    ) -> Launch:
        """Start a machine, or return the one that ``token`` has made already.

        ``digest`` is of the parameters that must be alike under one token. With ``name_scope`` a name is had once in
        it, until its machine is gone. A facade whose tokens count for a region puts the region into the token.

        :raises Refusal: ``TOKEN_MISMATCH``, ``TOKEN_USED_UP`` (its machine is ending or gone), ``NAME_TAKEN``, each
            with the machine; ``CAPACITY`` or ``QUOTA``. Nothing is made then.
        """
        raise NotImplementedError

    def listed(self, *, region: str = "", zone: str = "") -> tuple[Machine, ...]:
        """Return what a listing shows now: old enough to be seen, and not gone for longer than it is remembered."""
        raise NotImplementedError

    def get(self, id: str) -> Machine:  # noqa: A002
        """Return a machine that a listing would show.

        :raises Refusal: ``NOT_FOUND``.
        """
        raise NotImplementedError

    def named(self, scope: str, name: str) -> Machine:
        """Return the machine that has a name, or had it last, as :meth:`get` does.

        :raises Refusal: ``NOT_FOUND``.
        """
        raise NotImplementedError

    def made(self) -> tuple[Machine, ...]:
        """Return every machine that there ever was, oldest first: the truth, whatever a listing shows."""
        raise NotImplementedError

    def existing(self) -> tuple[Machine, ...]:
        """Return every machine of which anything is there now, whatever a listing shows."""
        raise NotImplementedError

    def retag(self, id: str, tags: Mapping[str, str]) -> Machine:  # noqa: A002
        """Replace a machine's tags."""
        raise NotImplementedError

    def amend(self, id: str, document: Mapping[str, Any]) -> Machine:  # noqa: A002
        """Replace a machine's document."""
        raise NotImplementedError

    def end(self, id: str, why: Why = Why.API, *, then: Then = Then.GONE, code: str = "", in_ms: int = 0) -> Machine:  # noqa: A002
        """End a machine now or in a while; of one that has ended so already nothing changes.

        :raises Refusal: ``NOT_FOUND``, for one that nobody ever made.
        """
        raise NotImplementedError

    def set_deadline(self, id: str, deadline: Deadline | None) -> Machine:  # noqa: A002
        """Set, move or take away the cloud's own timer of a machine; nothing for one that has ended."""
        raise NotImplementedError

    # --- what is made beside them ---------------------------------------------------------------

    def add(
        self,
        kind: str,
        id: str,  # noqa: A002
        *,
        place: str = "",
        machine: str = "",
        dies_with_machine: bool = True,
        tags: Mapping[str, str] | None = None,
        document: Mapping[str, Any] | None = None,
    ) -> Resource:
        """Make something, for a machine or shared.

        :raises Refusal: ``NAME_TAKEN``, where one of that kind and id stands.
        """
        raise NotImplementedError

    def resources(self, kind: str = "", *, machine: str = "") -> tuple[Resource, ...]:
        """Return what stands, oldest first; what dies with its machine is gone when that is."""
        raise NotImplementedError

    def resource(self, kind: str, id: str) -> Resource:  # noqa: A002
        """Return one.

        :raises Refusal: ``NOT_FOUND``.
        """
        raise NotImplementedError

    def put(self, resource: Resource) -> None:
        """Replace a resource of the same kind and id."""
        raise NotImplementedError

    def remove(self, kind: str, id: str, *, used_by: Sequence[str] = ()) -> None:  # noqa: A002
        """Unmake one.

        :raises Refusal: ``NOT_FOUND``; ``IN_USE``, where its machine, or one of ``used_by``, exists.
        """
        raise NotImplementedError

    def leftovers(self) -> tuple[Resource, ...]:
        """Return everything that was made for a machine and still stands, whether or not that does."""
        raise NotImplementedError

    def quota(self, region: str = "") -> Quota:
        """Return the vCPUs of a region, or of the account."""
        raise NotImplementedError

    def has_room(self, zone: str) -> bool:
        """Return whether a zone has capacity."""
        raise NotImplementedError

    # --- levers ---------------------------------------------------------------------------------

    def exhaust(self, zone: str = "") -> None:
        """Have no capacity, in one zone or region or anywhere."""
        raise NotImplementedError

    def replenish(self) -> None:
        """Have capacity everywhere."""
        raise NotImplementedError

    def use_up_quota(self) -> None:
        """Lower every quota to what is used."""
        raise NotImplementedError

    def restore_quota(self) -> None:
        """Set every quota back."""
        raise NotImplementedError

    def go_down(self, place: str = "") -> None:
        """Stop answering, in one place or anywhere."""
        raise NotImplementedError

    def come_back(self) -> None:
        """Answer everywhere."""
        raise NotImplementedError

    def refuse_credentials(self) -> None:
        """Refuse every caller."""
        raise NotImplementedError

    def accept_credentials(self) -> None:
        """Accept callers."""
        raise NotImplementedError

    def throttle(self, retry_after_s: float = 7.0) -> None:
        """Refuse every call as one too many."""
        raise NotImplementedError

    def relent(self) -> None:
        """Take calls again."""
        raise NotImplementedError

    def lose_next_answer(self) -> None:
        """Let the next launch succeed and say that its answer is lost."""
        raise NotImplementedError

    def fail_next_launch(self, code: str, *, in_ms: int = 1000) -> None:
        """Accept the next launch, and let it fail after ``in_ms`` with the facade's word ``code``."""
        raise NotImplementedError

    def hold_next_create(self) -> Held:
        """Hold the next machine before it runs, once it exists; to be called on the event loop."""
        raise NotImplementedError

    def kill(self, id: str) -> None:  # noqa: A002
        """Crash a machine."""
        raise NotImplementedError

    def preempt(self, id: str, *, notice_ms: int = 0) -> None:  # noqa: A002
        """Take a machine's capacity away after ``notice_ms``, in which it is marked."""
        raise NotImplementedError

    def shut_down(self, id: str) -> None:  # noqa: A002
        """Power off from inside, as whoever is root in the guest does."""
        raise NotImplementedError

    def close(self) -> None:
        """End the guests."""
        raise NotImplementedError

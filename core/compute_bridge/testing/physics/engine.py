"""The physics of one account: everything that is true of it, by a clock that nobody's jump reaches.

Facades call it from server threads, one for each request; a test pulls its levers from the event loop. Every method
may be called from any thread. Nothing here runs by itself: what is due has happened by the time that somebody looks.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from compute_bridge.ports.clock import Clock
from compute_bridge.testing.held import Held
from compute_bridge.testing.physics.guests import Guests
from compute_bridge.testing.physics.machines import Machines, Zones
from compute_bridge.testing.physics.matter import End, Resource, Then, Why
from compute_bridge.testing.physics.things import Things, thing


class Physics(Machines):
    """One account at one vendor.

    ``zones`` is the zones of each region. Times are milliseconds by ``clock``: ``boot_ms`` from the create to running,
    ``propagation_ms`` until a listing shows a new machine, ``ending_ms`` from its end until nothing is left of it,
    ``remember_ms`` for how long a listing shows it after that. ``on_guest_shutdown``, ``on_crash``, ``on_preemption``
    and ``on_failure`` say what becomes of a machine then. ``guests`` boots real SSH servers; without it a machine has
    an address that nobody listens on.
    """

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
        super().__init__(
            clock,
            zones=zones,
            vcpu_quota=vcpu_quota,
            boot_ms=boot_ms,
            propagation_ms=propagation_ms,
            ending_ms=ending_ms,
            remember_ms=remember_ms,
            on_guest_shutdown=on_guest_shutdown,
            on_failure=on_failure,
            guests=guests,
        )
        self._on_crash = on_crash
        self._on_preemption = on_preemption
        self._things = Things(lambda id_: self._lives[id_].at(self.now_ms()) if id_ in self._lives else None)

    # --- what is made beside them ---------------------------------------------------------------

    def add(
        self,
        kind: str,
        id: str,
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
        made = thing(
            kind,
            id,
            place=place,
            machine=machine,
            dies_with_machine=dies_with_machine,
            tags=tags,
            document=document,
            now_ms=self.now_ms(),
        )
        with self.lock:
            return self._things.add(made)

    def resources(self, kind: str = "", *, machine: str = "") -> tuple[Resource, ...]:
        """Return what stands, oldest first; what dies with its machine is gone when that is."""
        with self.lock:
            standing = self._things.all()
        return tuple(one for one in standing if kind in ("", one.kind) and machine in ("", one.machine))

    def resource(self, kind: str, id: str) -> Resource:
        """Return one.

        :raises Refusal: ``NOT_FOUND``.
        """
        with self.lock:
            return self._things.get(kind, id)

    def put(self, resource: Resource) -> None:
        """Replace a resource of the same kind and id."""
        with self.lock:
            self._things.put(resource)

    def remove(self, kind: str, id: str, *, used_by: Sequence[str] = ()) -> None:
        """Unmake one.

        :raises Refusal: ``NOT_FOUND``; ``IN_USE``, where one of the machines ``used_by`` exists.
        """
        with self.lock:
            self._things.remove(kind, id, used_by)

    def leftovers(self) -> tuple[Resource, ...]:
        """Return everything that was made for a machine and still stands, whether or not that does."""
        return tuple(one for one in self.resources() if one.machine)

    # --- levers ---------------------------------------------------------------------------------

    def lose_next_answer(self) -> None:
        """Let the next launch succeed and say that its answer is lost."""
        with self.lock:
            self._loses_next = True

    def fail_next_launch(self, code: str, *, in_ms: int = 1000) -> None:
        """Accept the next launch, and let it fail after ``in_ms`` with the facade's word ``code``."""
        with self.lock:
            self._next_failure = (code, in_ms)

    def hold_next_create(self) -> Held:
        """Hold the next machine before it runs, once it exists; to be called on the event loop."""
        with self.lock:
            self._next_hold = _held()
            return self._next_hold[0]

    def hold_next_login(self) -> Held:
        """Let the guest of the next machine take no login, though it runs; to be called on the event loop."""
        with self.lock:
            self._next_login = _held()
            return self._next_login[0]

    def kill(self, id: str) -> None:
        """Crash a machine."""
        self.end(id, Why.CRASHED, then=self._on_crash)

    def preempt(self, id: str, *, notice_ms: int = 0) -> None:
        """Take a machine's capacity away after ``notice_ms``, in which it is marked."""
        with self.lock:
            life = self._life(id)
            life.notice_ms = self.now_ms()
            life.preempted_ms = life.notice_ms + notice_ms
            life.ends.append(End(Why.PREEMPTED, life.preempted_ms, self._on_preemption))

    def shut_down(self, id: str) -> None:
        """Power off from inside, as whoever is root in the guest does."""
        with self.lock:
            self.end(id, Why.GUEST, then=self._life(id).on_guest_shutdown)

    def close(self) -> None:
        """End the guests."""
        if self._guests is not None:
            self._guests.close()


def _held() -> tuple[Held, Callable[[], object]]:
    held, loop = Held(), asyncio.get_running_loop()

    def tell() -> None:
        # The test's loop may have ended with the test.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(held.reached.set)

    return held, tell

"""The machines of an account: how they are made, found and ended."""

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from attrs import evolve

from compute_bridge.ports.clock import Clock
from compute_bridge.testing.held import Held
from compute_bridge.testing.physics.guest_document import GuestDocument
from compute_bridge.testing.physics.guests import Guests, random_address
from compute_bridge.testing.physics.life import Life
from compute_bridge.testing.physics.matter import (
    Code,
    Deadline,
    End,
    Launch,
    Machine,
    Quota,
    Refusal,
    State,
    Then,
    Why,
)
from compute_bridge.testing.physics.weather import Weather

Zones = Mapping[str, Sequence[str]]


class Machines(Weather):
    """Every machine that an account has or had, and the room for more; its arguments are those of ``Physics``."""

    _next_hold: tuple[Held, Callable[[], object]] | None
    _next_login: tuple[Held, Callable[[], object]] | None

    def __init__(
        self,
        clock: Clock,
        *,
        zones: Zones,
        vcpu_quota: int,
        boot_ms: int,
        propagation_ms: int,
        ending_ms: int,
        remember_ms: int,
        on_guest_shutdown: Then,
        on_failure: Then,
        guests: Guests | None,
    ) -> None:
        super().__init__(clock)
        self.zones = {region: tuple(names) for region, names in zones.items()}
        self.vcpu_quota = vcpu_quota
        self.boot_ms = boot_ms
        self.propagation_ms = propagation_ms
        self.ending_ms = ending_ms
        self.remember_ms = remember_ms
        self._on_guest_shutdown = on_guest_shutdown
        self._on_failure = on_failure
        self._guests = guests
        self._lives: dict[str, Life] = {}
        self._live: dict[str, Life] = {}
        self._by_token: dict[str, str] = {}
        self._by_name: dict[tuple[str, str], str] = {}
        self._ids = count(1)
        self._exhausted: set[str] = set()
        self._caps: dict[str, int] | None = None
        self._loses_next = False
        self._next_failure: tuple[str, int] | None = None
        self._next_hold = None
        self._next_login = None

    # --- machines -------------------------------------------------------------------------------

    def launch(
        self,
        *,
        region: str,
        zone: str = "",
        shape: str,
        vcpus: int = 1,
        id: str = "",
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
        with self.lock:
            met = self._met(token, digest)
            if met is not None:
                return Launch(met, is_new=False)
            self._refuse_name(name_scope, name)
            self._refuse_room(region, zone, vcpus)
            machine = Machine(
                id=id or f"m-{next(self._ids)}",
                name=name,
                region=region,
                zone=zone,
                shape=shape,
                vcpus=vcpus,
                spot=spot,
                token=token,
                digest=digest,
                tags=dict(tags or {}),
                document=dict(document or {}),
                user_data=user_data,
                address="",
                created_ms=self.now_ms(),
                running_ms=0,
                state=State.PENDING,
            )
            return self._begin(machine, name_scope, on_guest_shutdown or self._on_guest_shutdown, deadline)

    def _met(self, token: str, digest: str) -> Machine | None:
        if not token or token not in self._by_token:
            return None
        machine = self._lives[self._by_token[token]].at(self.now_ms())
        if machine.digest != digest:
            raise Refusal(Code.TOKEN_MISMATCH, machine=machine)
        if machine.state in (State.ENDING, State.GONE):
            raise Refusal(Code.TOKEN_USED_UP, machine=machine)
        return machine

    def _refuse_name(self, scope: str | None, name: str) -> None:
        if scope is None or (scope, name) not in self._by_name:
            return
        holder = self._lives[self._by_name[scope, name]].at(self.now_ms())
        if holder.exists:
            raise Refusal(Code.NAME_TAKEN, place=scope, machine=holder)

    def _refuse_room(self, region: str, zone: str, vcpus: int) -> None:
        quota = self.quota(region)
        if quota.used + vcpus > quota.limit:
            raise Refusal(Code.QUOTA, place=region)
        if not (self.has_room(zone) and self.has_room(region)):
            raise Refusal(Code.CAPACITY, place=zone or region)

    def _begin(self, machine: Machine, scope: str | None, on_shutdown: Then, deadline: Deadline | None) -> Launch:
        if machine.id in self._lives:
            raise ValueError(f"there was a machine {machine.id} already")
        life = Life(machine, machine.created_ms + self.boot_ms, self.ending_ms, on_shutdown, deadline=deadline)
        self._spoil(life)
        life.powers_off_ms = GuestDocument.read(machine.user_data).powers_off_ms
        life.born = evolve(machine, address=self._boot_guest(life))
        self._lives[machine.id] = self._live[machine.id] = life
        if machine.token:
            self._by_token[machine.token] = machine.id
        if scope is not None:
            self._by_name[scope, machine.name] = machine.id
        is_lost, self._loses_next = self._loses_next, False
        return Launch(life.at(self.now_ms()), is_new=True, is_answer_lost=is_lost)

    def _spoil(self, life: Life) -> None:
        if self._next_failure is not None:
            (code, in_ms), self._next_failure = self._next_failure, None
            life.boots_ms = None
            life.ends.append(End(Why.FAILED, life.born.created_ms + in_ms, self._on_failure, code))
        elif self._next_hold is not None:
            (life.held, tell), self._next_hold = self._next_hold, None
            life.boots_ms = None
            tell()

    def _boot_guest(self, life: Life) -> str:
        if self._guests is None:
            return random_address()
        held = self._login_held()

        def state() -> State:
            state = self._now(life).state
            is_held = held is not None and not held.released.is_set()
            return State.PENDING if is_held and state is State.RUNNING else state

        return self._guests.boot(life.born.id, life.born.user_data, state)

    def _login_held(self) -> Held | None:
        if self._next_login is None:
            return None
        (held, tell), self._next_login = self._next_login, None
        tell()
        return held

    def _now(self, life: Life) -> Machine:
        with self.lock:
            return life.at(self.now_ms())

    def listed(self, *, region: str = "", zone: str = "") -> tuple[Machine, ...]:
        """Return what a listing shows now: old enough to be seen, and not gone for longer than it is remembered."""
        return tuple(
            machine
            for machine in self.made()
            if self._is_shown(machine) and region in ("", machine.region) and zone in ("", machine.zone)
        )

    def _is_shown(self, machine: Machine) -> bool:
        now = self.now_ms()
        is_old = now >= machine.created_ms + self.propagation_ms
        return is_old and (machine.exists or now < machine.gone_ms + self.remember_ms)

    def get(self, id: str) -> Machine:
        """Return a machine that a listing would show.

        :raises Refusal: ``NOT_FOUND``.
        """
        machine = self._now(self._life(id))
        if not self._is_shown(machine):
            raise Refusal(Code.NOT_FOUND)
        return machine

    def ever(self, id: str) -> Machine:
        """Return a machine that there ever was: the truth, whatever a listing shows.

        :raises Refusal: ``NOT_FOUND``.
        """
        return self._now(self._life(id))

    def _life(self, id_: str) -> Life:
        with self.lock:
            if id_ not in self._lives:
                raise Refusal(Code.NOT_FOUND)
            return self._lives[id_]

    def named(self, scope: str, name: str) -> Machine:
        """Return the machine that has a name, or had it last, as :meth:`get` does.

        :raises Refusal: ``NOT_FOUND``.
        """
        with self.lock:
            return self.get(self._by_name.get((scope, name), ""))

    def made(self) -> tuple[Machine, ...]:
        """Return every machine that there ever was, oldest first: the truth, whatever a listing shows."""
        with self.lock:
            now = self.now_ms()
            return tuple(life.at(now) for life in self._lives.values())

    def existing(self) -> tuple[Machine, ...]:
        """Return every machine of which anything is there now, whatever a listing shows."""
        with self.lock:
            now = self.now_ms()
            return tuple(life.at(now) for life in self._standing(now))

    def _standing(self, now_ms: int) -> list[Life]:
        """Return the lives of which anything is left; asked at every launch, so no machine is made for it."""
        for id_ in [id_ for id_, life in self._live.items() if life.is_over(now_ms)]:
            del self._live[id_]
        return list(self._live.values())

    def retag(self, id: str, tags: Mapping[str, str]) -> Machine:
        """Replace a machine's tags."""
        with self.lock:
            life = self._life(id)
            life.born = evolve(life.born, tags=dict(tags))
            return self._now(life)

    def amend(self, id: str, document: Mapping[str, Any]) -> Machine:
        """Replace a machine's document."""
        with self.lock:
            life = self._life(id)
            life.born = evolve(life.born, document=dict(document))
            return self._now(life)

    def end(self, id: str, why: Why = Why.API, *, then: Then = Then.GONE, code: str = "", in_ms: int = 0) -> Machine:
        """End a machine now or in a while; of one that has ended so already nothing changes.

        :raises Refusal: ``NOT_FOUND``, for one that nobody ever made.
        """
        with self.lock:
            life = self._life(id)
            life.ends.append(End(why, self.now_ms() + in_ms, then, code))
            return self._now(life)

    def set_deadline(self, id: str, deadline: Deadline | None) -> Machine:
        """Set, move or take away the cloud's own timer of a machine; nothing for one that has ended."""
        with self.lock:
            life = self._life(id)
            life.set_deadline(deadline, self.now_ms())
            return self._now(life)

    # --- room -----------------------------------------------------------------------------------

    def quota(self, region: str = "") -> Quota:
        """Return the vCPUs of a region, or of the account; each region has the same limit."""
        with self.lock:
            standing = self._standing(self.now_ms())
            used = sum(life.born.vcpus for life in standing if region in ("", life.born.region))
            cap = self.vcpu_quota if self._caps is None else self._caps.get(region, 0)
            return Quota(cap, used)

    def has_room(self, place: str) -> bool:
        """Return whether a zone or region has capacity."""
        with self.lock:
            return not self._exhausted & {"", place}

    def exhaust(self, place: str = "") -> None:
        """Have no capacity, in one zone or region or anywhere."""
        with self.lock:
            self._exhausted.add(place)

    def replenish(self) -> None:
        """Have capacity everywhere."""
        with self.lock:
            self._exhausted.clear()

    def use_up_quota(self) -> None:
        """Lower every quota to what is used."""
        with self.lock:
            self._caps = {region: self.quota(region).used for region in ("", *self.zones)}

    def restore_quota(self) -> None:
        """Set every quota back."""
        with self.lock:
            self._caps = None

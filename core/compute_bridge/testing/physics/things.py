"""What stands in an account beside its machines."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compute_bridge.testing.physics.matter import Code, Machine, Refusal, Resource


class Things:
    """The disks, NICs, addresses, groups and schedules; ``machine`` tells of one by its id, if there ever was."""

    def __init__(self, machine: Callable[[str], Machine | None]) -> None:
        self._machine = machine
        self._standing: dict[tuple[str, str], Resource] = {}

    def all(self) -> tuple[Resource, ...]:
        """Return what stands; what dies with its machine is gone when that is."""
        dead = [key for key, thing in self._standing.items() if self._is_dead(thing)]
        for key in dead:
            del self._standing[key]
        return tuple(self._standing.values())

    def _is_dead(self, thing: Resource) -> bool:
        machine = self._machine(thing.machine) if thing.dies_with_machine else None
        return machine is not None and not machine.exists

    def add(self, thing: Resource) -> Resource:
        """Make one. Raises ``NAME_TAKEN``."""
        other = self._standing.get((thing.kind, thing.id))
        if other is not None and not self._is_dead(other):
            raise Refusal(Code.NAME_TAKEN, place=thing.place)
        return self.put(thing)

    def put(self, thing: Resource) -> Resource:
        """Replace one."""
        self._standing[thing.kind, thing.id] = thing
        return thing

    def get(self, kind: str, id_: str) -> Resource:
        """Return one. Raises ``NOT_FOUND``."""
        self.all()
        if (kind, id_) not in self._standing:
            raise Refusal(Code.NOT_FOUND)
        return self._standing[kind, id_]

    def remove(self, kind: str, id_: str, used_by: Sequence[str]) -> None:
        """Unmake one. Raises ``NOT_FOUND`` and ``IN_USE``."""
        self.get(kind, id_)
        users = [self._machine(machine) for machine in used_by]
        if any(user is not None and user.exists for user in users):
            raise Refusal(Code.IN_USE)
        del self._standing[kind, id_]


def thing(
    kind: str,
    id_: str,
    *,
    place: str,
    machine: str,
    dies_with_machine: bool,
    tags: Mapping[str, str] | None,
    document: Mapping[str, Any] | None,
    now_ms: int,
) -> Resource:
    """Return a resource that is made now; a shared one dies with nobody."""
    return Resource(
        id_, kind, place, machine, dies_with_machine and bool(machine), dict(tags or {}), dict(document or {}), now_ms
    )

"""What the physics of a cloud is made of: machines, what is made for them, calls, and refusals.

All times are milliseconds of UTC by the vendor's own clock.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from attrs import field, frozen


class Code(StrEnum):
    """Why the physics refuses; a facade has its cloud's own word for each."""

    DOWN = "down"
    """Nobody answers: cut the connection, or answer 503."""
    CREDENTIALS = "credentials"
    THROTTLED = "throttled"
    CAPACITY = "capacity"
    QUOTA = "quota"
    NAME_TAKEN = "name-taken"
    TOKEN_MISMATCH = "token-mismatch"  # noqa: S105 - a word for a refusal
    TOKEN_USED_UP = "token-used-up"  # noqa: S105 - a word for a refusal
    NOT_FOUND = "not-found"
    IN_USE = "in-use"


class Refusal(Exception):  # noqa: N818 - no error of ours: a facade turns it into one of its cloud's answers
    """The physics says no. ``machine`` is who has the name or the token already, where somebody has."""

    def __init__(
        self, code: Code, *, retry_after_s: float = 0.0, place: str = "", machine: "Machine | None" = None
    ) -> None:
        super().__init__(f"{code}{f' in {place}' if place else ''}")
        self.code = code
        self.retry_after_s = retry_after_s
        self.place = place
        self.machine = machine


class State(StrEnum):
    """How far a machine is.

    ``failed``: it was accepted, never ran, and stands until it is deleted. ``stopped`` costs as a running one does,
    ``deallocated`` nothing; both stand until they are deleted.
    """

    PENDING = "pending"
    RUNNING = "running"
    FAILED = "failed"
    STOPPED = "stopped"
    DEALLOCATED = "deallocated"
    ENDING = "ending"
    GONE = "gone"


class Then(StrEnum):
    """What becomes of a machine that an end meets."""

    GONE = "gone"
    STOPPED = "stopped"
    DEALLOCATED = "deallocated"
    FAILED = "failed"


class Why(StrEnum):
    """Why a machine ends."""

    API = "api"
    """Somebody asked for it by a call."""
    PREEMPTED = "preempted"
    CRASHED = "crashed"
    GUEST = "guest"
    """The guest powered off, by its own timer or by the hand of who is root there."""
    DEADLINE = "deadline"
    """The cloud's own timer."""
    FAILED = "failed"
    """It was accepted and never ran; ``End.code`` is the facade's word for the reason."""


@frozen
class End:
    """One end of a machine: why, when, and what becomes of it. It takes place when its moment comes."""

    why: Why
    at_ms: int
    then: Then = Then.GONE
    code: str = ""


@frozen
class Deadline:
    """A timer of the cloud, outside the guest. ``is_cleared_by_stop``: a machine that has stopped has it no more."""

    at_ms: int
    then: Then = Then.GONE
    is_cleared_by_stop: bool = False


@frozen
class Machine:
    """One machine at one moment: a snapshot.

    ``document`` is the facade's own, kept and never read here. ``end`` is the end that has taken place, the last one
    where a stopped machine was then deleted. ``ended_ms`` is when it ended, ``gone_ms`` when nothing of it was left;
    both are 0 before. ``notice_ms`` is when it was, or will be, marked for preemption, and ``preempted_ms`` when that
    takes place; 0 where nobody preempts it. ``deadline_ms`` is when the cloud's timer ends it, or has; 0 without one.
    """

    id: str
    name: str
    region: str
    zone: str
    shape: str
    vcpus: int
    spot: bool
    token: str
    digest: str
    tags: Mapping[str, str]
    document: Mapping[str, Any]
    user_data: bytes = field(repr=False)
    address: str
    created_ms: int
    running_ms: int
    state: State
    end: End | None = None
    ended_ms: int = 0
    gone_ms: int = 0
    notice_ms: int = 0
    preempted_ms: int = 0
    deadline_ms: int = 0

    @property
    def is_live(self) -> bool:
        """Whether it is there or coming."""
        return self.state in (State.PENDING, State.RUNNING)

    @property
    def exists(self) -> bool:
        """Whether anything of it is there."""
        return self.state is not State.GONE

    @property
    def costs(self) -> bool:
        """Whether it is billed, or will be: everything that exists but a deallocated or a failed one."""
        return self.state not in (State.GONE, State.DEALLOCATED, State.FAILED)

    @property
    def is_marked(self) -> bool:
        """Whether its preemption is announced and has not taken place."""
        return bool(self.notice_ms) and self.is_live


@frozen
class Launch:
    """What came of a launch. ``is_new``: it was made by this call. ``is_answer_lost``: cut the connection now."""

    machine: Machine
    is_new: bool
    is_answer_lost: bool = False


@frozen
class Resource:
    """Something beside the machines: a disk, a NIC, an address, a firewall, a schedule.

    ``machine`` is the id of whom it was made for, empty for what is shared. ``document`` is the facade's own.
    """

    id: str
    kind: str
    place: str
    machine: str
    dies_with_machine: bool
    tags: Mapping[str, str]
    document: Mapping[str, Any]
    created_ms: int


@frozen
class Quota:
    """How many vCPUs an account may have in a region, and has."""

    limit: int
    used: int


@frozen
class Call:
    """One request that reached the facade, refused ones also."""

    op: str
    changes: bool
    place: str
    at_ms: int

"""What every cloud's table of the boot file has."""

from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from attrs import field, frozen

from compute_bridge.model.boot import about
from compute_bridge.model.checks import each, few, label, text, whole
from compute_bridge.model.resources import MAX_DURATION_MS, NetworkPolicy
from compute_bridge.model.units import HOUR_MS, Milliseconds
from compute_bridge.ports.backend import HostKeySource


class HostKey(StrEnum):
    """What a guest's host key is, once it is ready."""

    ROTATED = "rotated"
    INJECTED = "injected"


def _words(owner: object, attribute: Any, value: dict[str, str]) -> None:
    for region, word in value.items():
        text(1, 64)(owner, attribute, region)
        label(owner, attribute, word)
    words = [*value.values()]
    if twice := sorted({word for word in words if words.count(word) > 1}):
        raise ValueError(f"sold_as: two regions are sold as {twice[0]}; write another backend for one of them")


def _of_the_table(owner: "CloudSettings", _attribute: object, value: dict[str, str]) -> None:
    known = owner.region_names
    if known and (strays := sorted({*value} - {*known})):
        raise ValueError(f"sold_as names {strays[0]}, which is no region of the table: it has {', '.join(known)}")


@frozen(kw_only=True)
class CloudSettings:
    """The keys that the kinds of all clouds share; a plugin's config class inherits them."""

    owner: str = field(
        validator=label,
        metadata=about("the word that marks what is yours in this account; the same for ever, and in its policy"),
    )
    shapes: tuple[str, ...] = field(
        validator=each(text(1, 64), 1, 256), metadata=about("the machine types on sale, as names or patterns with *")
    )
    spot: bool = field(default=False, metadata=about("whether spot capacity is sold beside on-demand capacity"))
    on_demand: bool = field(default=True, metadata=about("whether on-demand capacity is sold"))
    networks: tuple[NetworkPolicy, ...] = field(
        default=(NetworkPolicy.EGRESS, NetworkPolicy.ISOLATED),
        validator=few(1, 2),
        metadata=about("the network policies on sale"),
    )
    max_disk_gib: int = field(
        default=256, validator=whole(10, 2**14), metadata=about("the largest boot disk sold with a machine, in GiB")
    )
    max_duration_ms: Milliseconds = field(
        default=Milliseconds(7 * 24 * HOUR_MS),
        validator=whole(1, MAX_DURATION_MS),
        metadata=about("the longest lease sold"),
    )
    sold_as: dict[str, str] = field(
        factory=dict,
        validator=[_words, _of_the_table],
        hash=False,
        metadata=about("the market's word for a region, where it is not the cloud's own: region = word"),
    )
    ssh_port: int = field(default=22, validator=whole(1, 65535), metadata=about("the port of the guests' SSH servers"))
    host_key: HostKey = field(
        default=HostKey.ROTATED,
        metadata=about(
            "rotated: the host key that the cloud has seen is replaced before anybody is told of the machine; "
            "injected: it stays"
        ),
    )
    ready_s: int = field(
        default=600, validator=whole(1, 7200), metadata=about("seconds in which a machine must take a login")
    )
    watch_ms: int = field(
        default=5000, validator=whole(100, 600_000), metadata=about("milliseconds between two listings of the account")
    )
    calls_at_once: int = field(
        default=8,
        validator=whole(1, 64),
        metadata=about("the most API calls, and rotations of host keys, under way together"),
    )

    @on_demand.validator
    def _sells_something(self, _attribute: object, value: bool) -> None:
        if not value and not self.spot:
            raise ValueError("neither spot nor on_demand is on sale: allow one of them")

    @property
    def region_names(self) -> tuple[str, ...]:
        """The regions of the table, none other of which ``sold_as`` may name; without any here it may name all."""
        return ()

    @property
    def host_key_source(self) -> HostKeySource:
        """How the host key of a machine is known that is ready."""
        return HostKeySource(self.host_key)

    def sells(self, shape: str) -> bool:
        """Return whether a machine type is on sale."""
        return any(fnmatchcase(shape, pattern) for pattern in self.shapes)

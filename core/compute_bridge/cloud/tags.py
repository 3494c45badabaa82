"""What stands on a machine in the cloud so that any process knows it again, whole and in few letters."""

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

from compute_bridge.cloud.settings import CloudSettings
from compute_bridge.model.checks import octets, text, whole
from compute_bridge.model.errors import RecordError
from compute_bridge.model.ids import InstanceId, OfferId, Token
from compute_bridge.model.resources import Resources
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import HostKeySource, Instance, Order, Ownership

OWNER: Final = "cb-owner"
TOKEN: Final = "cb-token"  # noqa: S105 - the name of a tag
GRANT: Final = "cb-grant"
MAC: Final = "cb-mac"
OFFER: Final = "cb-offer"
USER: Final = "cb-user"
HOST_KEY: Final = "cb-host-key"
HOST_KEY_SOURCE: Final = "cb-host-key-source"
PORT: Final = "cb-port"
ENDS_AT: Final = "cb-ends-at"
SIZE: Final = "cb-size"

NARROW: Final = (OWNER, TOKEN, GRANT, MAC, HOST_KEY_SOURCE, PORT, ENDS_AT, SIZE)
"""The tags that fit a GCE label: at most 63 of ``a-z0-9-``. The others need a wider place, such as metadata."""


def token_word(token: Token) -> str:
    """Return the token as 52 letters ``a-z2-7``."""
    return _word(token)


def tags_of(order: Order, settings: CloudSettings) -> dict[str, str]:
    """Return every tag of the machine of ``order``; the same order gives the same tags.

    The host key is the one that the machine shows when it is ready.
    """
    size = order.requirements.resources
    source = settings.host_key_source
    return {
        OWNER: settings.owner,
        TOKEN: _word(order.token),
        GRANT: _word(order.ownership.grant_hash),
        MAC: _word(order.ownership.mac),
        OFFER: order.offer.id,
        USER: order.access.user,
        HOST_KEY: order.access.host_key_by(source) or "",
        HOST_KEY_SOURCE: source.value,
        PORT: str(settings.ssh_port),
        ENDS_AT: str(order.ends_at),
        SIZE: f"{size.cpu_millis}-{size.mem_mib}-{size.disk_gib}-{size.gpus}",
    }


@frozen
class OwnedTags:
    """The tags of one machine, read back."""

    token: Token = field(validator=octets(32))
    ownership: Ownership
    offer: OfferId = field(validator=text(1, 128))
    user: str = field(validator=text(1, 32))
    host_key: str = field(validator=text(16, 4096))
    host_key_source: HostKeySource
    port: int = field(validator=whole(1, 65535))
    ends_at: UtcMs = field(validator=whole(1))
    size: Resources

    @classmethod
    def read(cls, tags: Mapping[str, str], *, name: str) -> "OwnedTags":
        """Return what ``tags`` say of the machine called ``name``.

        :raises RecordError: if they are not whole, or not such as :func:`tags_of` writes; it is not one of ours then.
        """
        try:
            return cls(
                Token(_octets(tags[TOKEN])),
                Ownership(name, _octets(tags[GRANT]), _octets(tags[MAC])),
                OfferId(tags[OFFER]),
                tags[USER],
                tags[HOST_KEY],
                HostKeySource(tags[HOST_KEY_SOURCE]),
                _number(tags[PORT]),
                UtcMs(_number(tags[ENDS_AT])),
                _size(tags[SIZE]),
            )
        except (KeyError, ValueError, TypeError, binascii.Error) as error:
            raise RecordError(f"machine {name!r}: its tags are not ours: {error}") from error

    def instance(self, id_: InstanceId, *, host: str, started_at: UtcMs) -> Instance:
        """Return the instance that a machine with these tags is."""
        return Instance(
            id=id_,
            token=self.token,
            ownership=self.ownership,
            offer=self.offer,
            host=host,
            port=self.port,
            user=self.user,
            host_key=self.host_key,
            host_key_source=self.host_key_source,
            started_at=started_at,
            ends_at=self.ends_at,
        )


def _word(value: bytes) -> str:
    return base64.b32encode(value).decode().rstrip("=").lower()


def _size(words: str) -> Resources:
    cpu_millis, mem_mib, disk_gib, gpus = map(_number, words.split("-"))
    return Resources(cpu_millis, mem_mib, disk_gib, gpus)


def _number(word: str) -> int:
    value = int(word)
    if str(value) != word:
        raise ValueError(f"{word!r} is not a number as we write it")
    return value


def _octets(word: str) -> bytes:
    value = base64.b32decode(word.upper() + "=" * (-len(word) % 8))
    if _word(value) != word:
        raise ValueError(f"{word!r} is not a word as we write it")
    return value

"""Journal events laid out for the operator: what is known is decoded, what is nobody's business is left out."""

from collections.abc import Iterator
from enum import Enum
from typing import Any

import attrs
from blake3 import blake3

from compute_bridge.host.journal_events import read_event
from compute_bridge.model.ids import short
from compute_bridge.ports.errors import JournalError
from compute_bridge.ports.journal import JournalEvent

WITHHELD = frozenset({"host", "port", "user", "host_key", "image_digest", "pointer"})
"""Facts that lead to a requester's machine or mailbox; an operator's view holds none of them."""
_LONGEST = 64


def view(event: JournalEvent) -> dict[str, Any]:
    """Return one event as plain data; ids and hashes as hex digits, long bytes by their length and hash."""
    return {
        "sequence": event.sequence,
        "at_ms": event.at_ms,
        "kind": event.kind,
        "lease": event.lease.hex(),
        "state": event.state,
        "body": _body(event),
        "blob": short(event.blob_hash) if event.blob_hash else None,
        "hash": event.hash.hex(),
    }


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every fact of plain data with its key path."""
    if isinstance(value, dict):
        for word, inner in value.items():
            yield from flat(inner, f"{key}.{word}" if key else word)
    else:
        yield key, value


def _body(event: JournalEvent) -> Any:
    try:
        body = read_event(event)
    except JournalError as error:
        return {"unreadable": str(error)}
    return _plain(event.body) if body is None else _plain(body)


def _plain(value: Any) -> Any:
    if attrs.has(type(value)):
        return {
            one.name: "withheld" if one.name in WITHHELD else _plain(getattr(value, one.name))
            for one in attrs.fields(type(value))
        }
    if isinstance(value, bytes):
        return value.hex() if len(value) <= _LONGEST else f"{len(value)} bytes, blake3 {blake3(value).hexdigest()[:12]}"
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.value if isinstance(value, Enum) else value

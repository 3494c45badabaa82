"""The cloud-init document as a guest reads it: only what really would come of it."""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import field, frozen

_HEAD = b"#cloud-config\n"
_UNITS = "/etc/systemd/system/"
_SSHD = "/etc/ssh/sshd_config.d/"
_MOMENT = re.compile(r"^OnCalendar=(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC$", re.M)
_PORT = re.compile(r"^Port (\d+)$", re.M)


@frozen
class GuestDocument:
    """What a guest does with its user data: SSH on ``port``, and a power-off at ``powers_off_ms``, if at all.

    ``files`` are those of SSH's own folder and of programs, by path.
    """

    host_key_private: str = field(default="", repr=False)
    files: Mapping[str, str] = field(factory=dict, repr=False)
    users: Mapping[str, tuple[str, ...]] = field(factory=dict)
    port: int = 22
    powers_off_ms: int | None = None

    @classmethod
    def read(cls, user_data: bytes) -> "GuestDocument":
        """Return what comes of ``user_data``: of what is no cloud-config in JSON nothing, as cloud-init ignores it."""
        if not user_data.startswith(_HEAD):
            return cls()
        try:
            document = json.loads(user_data[len(_HEAD) :])
            files = {file["path"]: file["content"] for file in document.get("write_files", ())}
            return cls(
                host_key_private=document.get("ssh_keys", {}).get("ed25519_private", ""),
                files=files,
                users=_users(document),
                port=_port(files),
                powers_off_ms=_powers_off_ms(files, document.get("runcmd", ())),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            return cls()


def _users(document: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {user["name"]: tuple(user.get("ssh_authorized_keys", ())) for user in document.get("users", ())}


def sshd_settings(files: Mapping[str, str]) -> str:
    """Return what stands in the files that the SSH server's settings include."""
    return "\n".join(text for path, text in sorted(files.items()) if path.startswith(_SSHD))


def _port(files: Mapping[str, str]) -> int:
    found = _PORT.search(sshd_settings(files))
    return int(found[1]) if found else 22


def _powers_off_ms(files: Mapping[str, str], commands: Iterable[Any]) -> int | None:
    """Return the earliest moment of a timer that is started and whose service powers off."""
    moments = []
    for command in commands:
        if not isinstance(command, list) or command[:3] != ["systemctl", "enable", "--now"]:
            continue
        timer = files.get(f"{_UNITS}{command[3]}", "")
        service = files.get(f"{_UNITS}{command[3].removesuffix('.timer')}.service", "")
        found = _MOMENT.search(timer)
        if found and "poweroff" in service:
            moment = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            moments.append(int(moment.timestamp()) * 1000)
    return min(moments, default=None)

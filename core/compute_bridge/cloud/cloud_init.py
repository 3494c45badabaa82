"""The cloud-init document of an order: who may log in, the host key, and a timer that ends the guest by itself.

Source: cloud-init 22.4.2, modules cc_ssh, cc_users_groups, cc_write_files and cc_runcmd, and its JSON schema.
"""

import json
from datetime import UTC, datetime
from typing import Any

from compute_bridge.cloud import rotation
from compute_bridge.cloud.settings import CloudSettings
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import HostKeySource, Order

_SSHD = "/etc/ssh/sshd_config.d/00-compute-bridge.conf"
_UNITS = "/etc/systemd/system"
_END = "compute-bridge-end"
# Debian and Ubuntu call it ssh, Amazon Linux and Fedora sshd; a command that fails is an error of cloud-init's.
# Where systemd listens for the server (Ubuntu 24.04), a port that is set here is heard once its socket begins anew.
_LISTEN = "systemctl try-restart ssh.socket 2>/dev/null || :"
_RELOAD = "for unit in ssh.service sshd.service; do systemctl try-reload-or-restart $unit 2>/dev/null || :; done"
_PORT = 22


def cloud_config(order: Order, settings: CloudSettings, *, grace_ms: int) -> str:
    """Return ``#cloud-config`` and a JSON object, which is YAML: the same order gives the same bytes.

    The guest powers off ``grace_ms`` after the order's end, by a timer with an absolute time that outlives a restart
    and catches up on what it missed. Whoever is root in the guest can stop it.
    """
    document: dict[str, Any] = {
        "disable_root": order.access.user != "root",
        "runcmd": [
            ["systemctl", "daemon-reload"],
            ["systemctl", "enable", "--now", f"{_END}.timer"],
            *([["sh", "-c", _LISTEN]] if settings.ssh_port != _PORT else []),
            ["sh", "-c", _RELOAD],
        ],
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": order.access.host_key_private, "ed25519_public": order.access.host_key},
        "ssh_pwauth": False,
        "users": [_user(order)],
        "write_files": [
            *_ssh_files(order, settings),
            _file(f"{_UNITS}/{_END}.service", _service()),
            _file(f"{_UNITS}/{_END}.timer", _timer(UtcMs(order.ends_at + grace_ms))),
        ],
    }
    return "#cloud-config\n" + json.dumps(document, sort_keys=True, indent=1) + "\n"


def _user(order: Order) -> dict[str, Any]:
    user: dict[str, Any] = {
        "name": order.access.user,
        "lock_passwd": True,
        "ssh_authorized_keys": [order.access.authorized_key],
    }
    if order.access.user != "root":
        user |= {"shell": "/bin/bash", "sudo": "ALL=(ALL) NOPASSWD:ALL"}
    return user


def _ssh_files(order: Order, settings: CloudSettings) -> list[dict[str, str]]:
    if settings.host_key_source is not HostKeySource.ROTATED:
        return [_file(_SSHD, _sshd(settings.ssh_port))]
    return [
        _file(_SSHD, _sshd(settings.ssh_port) + rotation.SSHD),
        _file(rotation.DOOR, rotation.door(order.access.rotation)),
        _file(rotation.PROGRAM, rotation.program(), permissions="0755"),
    ]


def _file(path: str, content: str, *, permissions: str = "0644") -> dict[str, str]:
    return {"path": path, "content": content, "owner": "root:root", "permissions": permissions}


def _sshd(port: int) -> str:
    return (
        f"Port {port}\n"
        "HostKey /etc/ssh/ssh_host_ed25519_key\n"
        "PasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\n"
        "PermitRootLogin prohibit-password\n"
    )


def _service() -> str:
    return (
        "[Unit]\nDescription=The lease of this machine has ended\n\n"
        "[Service]\nType=oneshot\nExecStart=/usr/bin/systemctl poweroff --force\n"
    )


def _timer(at: UtcMs) -> str:
    # Rounded up: a timer in whole seconds must not be early.
    moment = datetime.fromtimestamp(-(-at // 1000), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return (
        "[Unit]\nDescription=End this machine when its lease has ended\n\n"
        f"[Timer]\nOnCalendar={moment}\nPersistent=true\nAccuracySec=1s\n\n"
        "[Install]\nWantedBy=timers.target\n"
    )

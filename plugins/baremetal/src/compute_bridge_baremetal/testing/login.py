"""Logging in to a guest as its requester does: the user's own ssh, and a pinned host key."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from anyio import to_thread

from compute_bridge.ports.backend import Instance
from compute_bridge.testing.orders import guest_key

Finished = subprocess.CompletedProcess[bytes]

_PATIENCE_S = 30


async def log_in(instance: Instance, command: str, *, user: str = "") -> Finished:
    """Run ``command`` in the guest and return how it ended; 255 is ssh's own failure."""
    return await to_thread.run_sync(_log_in, instance, command, user or instance.user)


def _log_in(instance: Instance, command: str, user: str) -> Finished:
    with tempfile.TemporaryDirectory() as folder:
        identity, known = Path(folder, "identity"), Path(folder, "known_hosts")
        identity.touch(0o600)
        identity.write_text(guest_key(instance.token))
        known.write_text(f"[{instance.host}]:{instance.port} {instance.host_key}\n")
        words = [shutil.which("ssh") or "ssh", "-F", "none", "-i", str(identity), "-p", str(instance.port)]
        words += [word for name, value in _options(known).items() for word in ("-o", f"{name}={value}")]
        words += [f"{user}@{instance.host}", command]
        return subprocess.run(  # noqa: S603 - every word is ours or the test's
            words, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_S
        )


def _options(known: Path) -> dict[str, str]:
    return {
        "UserKnownHostsFile": str(known),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "LogLevel": "ERROR",
        "ConnectTimeout": "10",
    }

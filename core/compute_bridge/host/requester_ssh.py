"""The user's own ``ssh`` with the receipt's host key pinned, and nothing else believed."""

from collections.abc import Sequence
from pathlib import Path

from compute_bridge.host.requester_checks import HOST_KEY_TYPE
from compute_bridge.host.requester_state import Access, KeptRequest
from compute_bridge.model.receipt import Credential, SshAccessReceipt
from compute_bridge.ports.requester_store import StoreError

KNOWN_HOSTS = "known_hosts"
BRIDGE_MADE_KEY = "identity"
USER_KEY = "identity.pub"
SSH_PORT = 22


def known_hosts_line(receipt: SshAccessReceipt) -> str:
    """Return the one line that ``ssh`` may believe; it looks up other ports than 22 as ``[host]:port``."""
    name = receipt.host if receipt.port == SSH_PORT else f"[{receipt.host}]:{receipt.port}"
    return f"{name} {receipt.host_key}\n"


async def ssh_command(kept: KeptRequest, access: Access, command: Sequence[str]) -> list[str]:
    """Write the pin, and a bridge-made key, and return the argument vector."""
    receipt = access.receipt.value
    pin = await kept.store.write(kept.id, KNOWN_HOSTS, known_hosts_line(receipt).encode())
    identity = await _identity(kept, receipt)
    options = {
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": quoted(pin),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlgorithms": HOST_KEY_TYPE,
        "UpdateHostKeys": "no",
        "VerifyHostKeyDNS": "no",
        "IdentitiesOnly": "yes",
        "IdentityFile": quoted(identity),
        "PreferredAuthentications": "publickey",
        "ForwardAgent": "no",
    }
    given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    # No configuration file: it could name another port, proxy or key.
    return [
        "ssh", "-F", "none", *given, "-p", str(receipt.port), "-l", receipt.user, "--", receipt.host, *command
    ]  # fmt: skip


def quoted(path: Path) -> str:
    """Return ``path`` as one word of an ``ssh`` option, in which ``%`` and ``${}`` mean something else.

    :raises StoreError: if the path cannot be written so.
    """
    text = str(path)
    if '"' in text or "${" in text or "\n" in text:
        raise StoreError(f"{text!r}: ssh cannot be given a path with a quote, a line end or '${{'; name another folder")
    return '"' + text.replace("%", "%%") + '"'


async def _identity(kept: KeptRequest, receipt: SshAccessReceipt) -> Path:
    if receipt.credential is Credential.BRIDGE_MADE:
        return await kept.store.write(kept.id, BRIDGE_MADE_KEY, receipt.private_key.encode())
    if kept.secrets.identity:
        return Path(kept.secrets.identity)
    # The public half alone: ssh then asks the agent for the private one.
    return await kept.store.write(kept.id, USER_KEY, f"{kept.body.value.ssh_key}\n".encode())

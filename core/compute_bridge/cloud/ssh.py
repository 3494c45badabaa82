"""The one module here that speaks SSH: which host key a guest shows, and how it comes to show another.

A plugin that uses it depends on asyncssh, which is imported at the first question.
"""

import logging
from functools import cache
from importlib import import_module
from typing import Any

import anyio
from anyio import to_thread

from compute_bridge.cloud.rotation import USER
from compute_bridge.ports.backend import GuestAccess

_ALGORITHMS = ["ssh-ed25519"]


@cache
def _asyncssh() -> Any:
    # At INFO it writes every address that it dials, and guests' addresses are nobody's business.
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    return import_module("asyncssh")


async def shown_host_key(host: str, port: int, *, within_s: float) -> str | None:
    """Return the Ed25519 host key line that the server shows, proven by its signature; ``None`` for no SSH server."""
    asyncssh = await to_thread.run_sync(_asyncssh)
    try:
        with anyio.fail_after(within_s):
            key = await asyncssh.get_server_host_key(host, port, server_host_key_algs=_ALGORITHMS, config=None)
    except (OSError, TimeoutError, asyncssh.Error):
        return None
    return None if key is None else " ".join(key.export_public_key().decode().split()[:2])


async def rotate_host_key(host: str, port: int, access: GuestAccess, *, within_s: float) -> str:
    """Have the guest put ``access.rotation`` in the place of its injected host key, over a session pinned to that.

    Returns the name of the error's class, empty for none; only the key that the guest shows next tells whether it
    worked. Asked for again, it does the same.
    """
    asyncssh = await to_thread.run_sync(_asyncssh)
    try:
        with anyio.fail_after(within_s):
            async with asyncssh.connect(
                host,
                port,
                username=USER,
                client_keys=[asyncssh.import_private_key(access.rotation.login_key_private)],
                known_hosts=([asyncssh.import_public_key(access.host_key)], [], []),
                server_host_key_algs=_ALGORITHMS,
                preferred_auth="publickey",
                agent_path=None,
                config=None,
            ) as session:
                await session.run("", input=access.rotation.host_key_private, check=True)
    except (OSError, TimeoutError, asyncssh.Error) as error:
        # Only the class: what a guest says is not ours to print.
        return type(error).__name__
    return ""

"""The one module here that speaks SSH: which host key does whoever answers at an address show?

A plugin that uses it depends on asyncssh, which is imported at the first question.
"""

from functools import cache
from importlib import import_module
from typing import Any

import anyio
from anyio import to_thread


@cache
def _asyncssh() -> Any:
    return import_module("asyncssh")


async def shown_host_key(host: str, port: int, *, within_s: float) -> str | None:
    """Return the Ed25519 host key line that the server shows, proven by its signature; ``None`` for no SSH server."""
    asyncssh = await to_thread.run_sync(_asyncssh)
    try:
        with anyio.fail_after(within_s):
            key = await asyncssh.get_server_host_key(host, port, server_host_key_algs=["ssh-ed25519"], config=None)
    except (OSError, TimeoutError, asyncssh.Error):
        return None
    return None if key is None else " ".join(key.export_public_key().decode().split()[:2])

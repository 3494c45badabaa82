"""Logging in where there is no ``ssh`` to run. The only module that imports asyncssh."""

import asyncssh

from compute_bridge_demo.child import Finished
from compute_bridge_demo.errors import DemoError


async def run_over_ssh(command: str, *, host: str, port: int, user: str, host_key: str, private_key: str) -> Finished:
    """Run ``command`` on an SSH server that must show exactly ``host_key``.

    :raises DemoError: if it shows another, refuses ours or cannot be reached.
    """
    name = host if port == 22 else f"[{host}]:{port}"
    try:
        async with asyncssh.connect(
            host,
            port,
            config=None,
            username=user,
            client_keys=[asyncssh.import_private_key(private_key)],
            known_hosts=asyncssh.import_known_hosts(f"{name} {host_key}\n"),
            server_host_key_algs=["ssh-ed25519"],
            agent_path=None,
        ) as connection:
            done = await connection.run(command, check=False)
    except (OSError, asyncssh.Error) as error:
        raise DemoError(f"cannot log in at {name}: {type(error).__name__}: {error}") from error
    output = done.stdout if isinstance(done.stdout, str) else bytes(done.stdout or b"").decode()
    return Finished(-1 if done.exit_status is None else done.exit_status, output)

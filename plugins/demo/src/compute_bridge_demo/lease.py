"""The requester's part: asks, logs in, releases, and verifies everything afterwards."""

import re
from pathlib import Path
from typing import Any

import anyio
from attrs import define

from compute_bridge.model.ids import GrantId, ProviderId
from compute_bridge.wire.keys import ssh_private_file
from compute_bridge_demo import scene
from compute_bridge_demo.account import Account, Bid, Login
from compute_bridge_demo.audit import Auditors, Verification
from compute_bridge_demo.cast import Cast, parsed
from compute_bridge_demo.errors import DemoError
from compute_bridge_demo.market_view import MarketView

# Some work to be metered, and an answer that is the same everywhere.
COMMAND = "head -c 50000000 /dev/zero | cksum && echo done, as $(id -un)"
MAX_RATE_MICROS = 1_000_000
ASKED = ("--cpu", "0.5", "--mem", "256MiB", "--disk", "1", "--network", "egress")
_READY = re.compile(r"ready on backend (?P<backend>\S+)")


@define
class Lease:
    """One lease, seen from the requester's chair. ``file`` is its ``requester.toml``."""

    cast: Cast
    view: MarketView
    file: Path

    async def play(self, duration: str) -> Account:
        """Ask, use, release, settle, verify; return the account."""
        access = await self._submit(duration)
        login = await self._log_in(access)
        backend = await self._backend(access["grant"])
        await self._release(access["request_id"])
        await self._settle(access["grant"]["grant_id"])
        status = await self._ask("status", access["request_id"])
        found = await Auditors(self.cast, self.file).verify(access)
        return _account(self.cast, access, status, login, backend, found)

    async def _ask(self, *arguments: str) -> Any:
        return await self.cast.ask("requester", "request", *arguments, "--config", self.file)

    async def _submit(self, duration: str) -> Any:
        """Ask for a machine and stay until it is there, telling of the round meanwhile."""
        self.cast.tell(f"the requester asks: {' '.join(ASKED)}, {duration}, at most {MAX_RATE_MICROS} micros an hour")
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._tell_round)
            access = await self._ask(
                "submit", "--wait", *ASKED, "--duration", duration, "--max-rate", str(MAX_RATE_MICROS),
                "--image", "vm:host", "--ssh-key", str(self.cast.folder / scene.REQUESTER_KEY),
            )  # fmt: skip
        self.cast.tell(
            f"the receipt opens: {access['user']}@{access['host']} port {access['port']}, "
            f"host key known as {access['host_key_source']}"
        )
        return access

    async def _tell_round(self) -> None:
        record, award = await self.view.first_award()
        for verdict in await self.view.verdicts(record, award.request_id):
            asks = f"asks {verdict.rate} micros an hour" if verdict.rate else "does not bid"
            self.cast.tell(f"round {record.round}: {self.cast.name(verdict.provider_id)} {asks}: {verdict.reason}")

    async def _log_in(self, access: Any) -> Login:
        """Run the command on the machine, the server held to the receipt's host key."""
        client = self.cast.programs.client
        done = await (self._log_in_with_ssh(access) if client else self._log_in_with_asyncssh(access))
        if not done.host_key_pinned or done.exit_status != 0:
            raise DemoError(f"the command on the machine ended with status {done.exit_status}: {done.stdout[:500]}")
        self.cast.tell(f"{done.client} ran the command: exit status {done.exit_status}")
        return done

    async def _log_in_with_ssh(self, access: Any) -> Login:
        arguments = ("request", "ssh", access["request_id"], "--json", "--config", self.file, "--", COMMAND)
        finished = await self.cast.run("requester", *arguments)
        told = parsed("'request ssh'", finished)
        return self._login(access, told, client=f"{self.cast.programs.client} (OpenSSH)")

    async def _log_in_with_asyncssh(self, access: Any) -> Login:
        # Half a second of imports that a machine with OpenSSH never needs.
        from compute_bridge_demo.login import run_over_ssh

        async with self.cast.patience("the login"):
            finished = await run_over_ssh(
                COMMAND,
                host=access["host"],
                port=access["port"],
                user=access["user"],
                host_key=access["host_key"],
                private_key=ssh_private_file(self.cast.ssh_seed),
            )
        told = {"host_key_pinned": True, "exit_status": finished.status, "stdout": finished.output}
        return self._login(access, told, client="asyncssh")

    def _login(self, access: Any, told: Any, *, client: str) -> Login:
        server = self.cast.programs.server
        return Login(
            address=f"{access['user']}@{access['host']}:{access['port']}",
            host_key=access["host_key"],
            host_key_pinned=told["host_key_pinned"],
            server=f"{server} (OpenSSH)" if server else "compute_bridge_baremetal.guest_sshd (asyncssh)",
            client=client,
            command=COMMAND,
            exit_status=told["exit_status"],
            stdout=told["stdout"],
        )

    async def _backend(self, grant: Any) -> str:
        """Return where the winner placed the lease, as its operator is told."""
        rack = self.cast.providers[ProviderId(bytes.fromhex(grant["provider_id"]))]
        config = self.cast.folder / f"{rack.bridge}.toml"
        [story] = await self.cast.ask("operator", "explain", grant["grant_id"], "--config", config)
        found = [_READY.search(line["text"]) for line in story["lines"]]
        ready = [match["backend"] for match in found if match]
        if not ready:
            raise DemoError(f"{rack.bridge} cannot explain where it placed grant {grant['grant_id'][:12]}")
        return ready[-1]

    async def _release(self, request_id: str) -> None:
        told = await self._ask("release", request_id)
        self.cast.tell(f"the requester gives the machine back: {told['reason']}")

    async def _settle(self, grant_id: str) -> None:
        async with self.cast.patience("the settlement"):
            statement = await self.view.statement(GrantId(bytes.fromhex(grant_id)))
        self.cast.tell(
            f"the market has settled: {statement.billable_ms} ms at {statement.rate} micros an hour, "
            f"{statement.charge} micros"
        )


def _account(
    cast: Cast, access: Any, status: Any, login: Login, backend: str, found: dict[str, Verification]
) -> Account:
    grant, log, settlement = access["grant"], status["log"], status["settlement"]
    return Account(
        coalition=scene.COALITION,
        request_id=access["request_id"],
        grant_id=grant["grant_id"],
        card_hash=grant["card_hash"],
        round=grant["round"],
        winner=grant["provider_id"],
        winner_bridge=cast.name_of(grant["provider_id"]),
        bids=tuple(
            Bid(bid["provider"], cast.name_of(bid["provider"]), bid["rate_micros"], bid["reason"])
            for bid in status["bids"]
        ),
        asked=" ".join(ASKED),
        max_rate_micros=MAX_RATE_MICROS,
        backend=backend,
        ssh=login,
        outcome=log["outcome"],
        reason=log["reason"],
        usage=log["usage"],
        rate_micros=grant["rate_micros"],
        billable_ms=settlement["billable_ms"],
        charge_micros=settlement["charge_micros"],
        requester_fee_micros=settlement["requester_fee_micros"],
        provider_fee_micros=settlement["provider_fee_micros"],
        currency=settlement["currency"],
        verified={part: verification.holds for part, verification in found.items()},
        faults={part: verification.fault for part, verification in found.items() if not verification.holds},
        development_attestation=log["development_attestation"],
    )

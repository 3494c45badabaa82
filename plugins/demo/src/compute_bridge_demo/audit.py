"""What is checked when all is over: every record by an auditor who trusts nobody, the books by their owner."""

from pathlib import Path
from typing import Any

import anyio
from attrs import define, field, frozen

from compute_bridge_demo.cast import Cast, parsed


@frozen
class Verification:
    """What an auditor found: each check by name, and what was wrong with it, if anything."""

    checks: dict[str, str]
    is_accepted: bool

    @property
    def holds(self) -> bool:
        """Whether there were checks and all of them held."""
        return self.is_accepted and bool(self.checks) and not any(self.checks.values())

    @property
    def fault(self) -> str:
        """What did not hold, or nothing."""
        return "; ".join(f"{name}: {fault}" for name, fault in self.checks.items() if fault)

    def only(self, name: str) -> "Verification":
        """Return the verification that one check is."""
        checks = {name: self.checks[name]} if name in self.checks else {}
        return Verification(checks, is_accepted=self.is_accepted or not any(checks.values()))


@define
class Auditors:
    """One process for each record that is verified. ``file`` is the requester's, which names the market."""

    cast: Cast
    file: Path
    found: dict[str, Verification] = field(factory=dict, init=False)

    async def verify(self, access: Any) -> dict[str, Verification]:
        """Return what was found of each part of the lease that ``access`` belongs to."""
        grant = access["grant"]
        subjects = {
            "card": grant["card_hash"],
            "clearing": str(grant["round"]),
            "grant": grant["grant_id"],
            "receipt": access["request_id"],
            "log": grant["grant_id"],
            "ledger": grant["grant_id"],
        }
        async with anyio.create_task_group() as auditors:
            for part, subject in subjects.items():
                auditors.start_soon(self._audit, part, subject)
            auditors.start_soon(self._add_up)
        self.found["quote"] = self.found["card"].only("quote")
        return self.found

    async def _audit(self, part: str, subject: str) -> None:
        finished = await self.cast.run(f"auditor-{part}", "verify", part, subject, "--json", "--config", self.file)
        told = parsed(f"'verify {part}'", finished)
        checks = {check["name"]: check["fault"] for check in told["checks"]}
        self.found[part] = Verification(checks, is_accepted=finished.status == 0 and told["verified"])
        self.cast.tell(f"an auditor checked the {part}: {', '.join(checks)}: {self.found[part].fault or 'all hold'}")

    async def _add_up(self) -> None:
        told = await self.cast.ask("coalition-operator", "market", "ledger", "--config", self.cast.market_file)
        off = f"they add up to {told['total']}, not 0" if told["total"] else ""
        self.found["books"] = Verification({"sum": off}, is_accepted=told["entries"] > 0)
        self.cast.tell(f"the market's books, {told['entries']} entries, add up to {told['total']}")

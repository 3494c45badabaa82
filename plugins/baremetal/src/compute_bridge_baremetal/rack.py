"""One rack host: the agent on it, asked in the port's own words."""

from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path

import anyio
from attrs import frozen

from compute_bridge.model.ids import Token
from compute_bridge.model.usage import UsageMetrics
from compute_bridge.ports.backend import Instance, Order
from compute_bridge.ports.errors import UnavailableError, UnservableError
from compute_bridge_baremetal import protocol
from compute_bridge_baremetal.config import BaremetalConfig, RackMachine
from compute_bridge_baremetal.errors import meaning
from compute_bridge_baremetal.images import open_archive
from compute_bridge_baremetal.record import (
    Facts,
    Listing,
    limit_lines,
    order_lines,
    read_facts,
    read_instance,
    read_listing,
    read_usage,
)
from compute_bridge_baremetal.ssh import SshLink

_ASK_S = 40
# Longer than the agent's own locks, so that its word on them arrives.
_CHANGE_S = 90
_BRING_S = 3600

Pairs = tuple[tuple[str, str], ...]


@frozen
class Made:
    """A lease that a rack host has, and whether this very call made it."""

    instance: Instance
    is_new: bool


class RackHost:
    """The agent of one machine, over its kept connection; every failure names the machine."""

    def __init__(self, machine: RackMachine, config: BaremetalConfig, link: SshLink, *, place: str) -> None:
        self.machine = machine
        self.place = place
        self._config = config
        self._link = link
        self._installing = anyio.Lock()
        self._bringing = anyio.Lock()

    async def facts(self) -> Facts:
        """Return what the machine says of itself."""
        request = {"driver": self._config.driver.value, **limit_lines(self.machine, self._config)}
        pairs = await self._ask("facts", request, doing="examine the machine")
        with self._understood():
            return read_facts(dict(pairs))

    async def listing(self, asked: Iterable[Token] = ()) -> Listing:
        """Return the live leases, and the ends of those in ``asked`` that are gone."""
        tokens = frozenset(asked)
        watch = tuple(sorted(token.hex() for token in tokens))
        pairs = await self._ask("list", {}, watch=watch, doing="list its leases")
        with self._understood():
            return read_listing(pairs, self.machine.name, tokens)

    async def create(self, order: Order, *, attempt: str, remaining_ms: int) -> Made:
        """Make the lease of ``order``, or return the one that is there."""
        request = {
            **order_lines(order, self.machine, self._config),
            **limit_lines(self.machine, self._config),
            "attempt": attempt,
            "backend": order.offer.backend,
            "remaining_ms": remaining_ms,
        }
        lines = dict(await self._ask("create", request, doing="start the workload", within_s=_CHANGE_S))
        with self._understood():
            return Made(read_instance(lines, self.machine.name), lines["state"] == "new")

    async def usage(self, token: Token) -> UsageMetrics:
        """Return what a lease has used, also after its end."""
        pairs = await self._ask("usage", {"token": token.hex()}, doing="meter the lease")
        with self._understood():
            return read_usage(dict(pairs))

    async def extend(self, token: Token, *, ends_at: int, remaining_ms: int) -> None:
        """Move the end of a live lease."""
        request: dict[str, str | int] = {"token": token.hex(), "ends_at": ends_at, "remaining_ms": remaining_ms}
        await self._ask("extend", request, doing="move the end")

    async def terminate(self, token: Token, *, attempt: str = "") -> None:
        """End a lease; with ``attempt``, only if that attempt made it, and without a trace."""
        request = {"token": token.hex(), "attempt": attempt}
        await self._ask("terminate", request, doing="end the lease", within_s=_CHANGE_S)

    async def bring_image(self, digest: str) -> None:
        """See that the image with the manifest ``digest`` is there, verified by the machine itself.

        :raises UnservableError: if we have no such image, or its bytes are others.
        """
        image = next((one for one in self._config.images if one.digest.endswith(f":{digest}")), None)
        if image is None:
            raise UnservableError(f"{self.place}: no image sha256:{digest}; add it to the backend's images")
        async with self._bringing:
            request = {"image": digest, "podman": self._config.podman}
            if ("image", "verified") in await self._ask("image_state", request, doing="look for the image"):
                return
            archive = await open_archive(Path(image.archive), digest, place=self.place)
            header = protocol.encode({**request, "image_config": archive.config, "size": archive.size})
            payload = _after(header, archive.chunks())
            await self._call("image_put", payload, doing="bring the image", within_s=_BRING_S)

    # --- the agent ------------------------------------------------------------------------------

    async def _ask(
        self,
        operation: str,
        values: Mapping[str, str | int],
        *,
        doing: str,
        watch: tuple[str, ...] = (),
        within_s: float = _ASK_S,
    ) -> Pairs:
        request = protocol.encode(values, watch=watch)
        command = protocol.call_command(self.machine.state_dir, operation)
        output = await self._link.run(command, _only(request), within_s=within_s)
        if protocol.is_reply(output):
            return self._read(output, doing)
        await self._install()
        return await self._call(operation, _only(request), doing=doing, within_s=within_s)

    async def _call(self, operation: str, payload: AsyncGenerator[bytes], *, doing: str, within_s: float) -> Pairs:
        command = protocol.call_command(self.machine.state_dir, operation)
        return self._read(await self._link.run(command, payload, within_s=within_s), doing)

    async def _install(self) -> None:
        async with self._installing:
            command = protocol.install_command(self.machine.state_dir)
            await self._link.run(command, _only(protocol.script().text), within_s=_ASK_S)

    def _read(self, output: bytes, doing: str) -> Pairs:
        try:
            return protocol.decode(output)
        except protocol.RefusedError as error:
            raise meaning(error, place=self.place, doing=doing) from error
        except protocol.CutShortError as error:
            raise UnavailableError(
                f"{self.place}: cannot {doing}: {error}; see that {self.machine.state_dir} can be written there"
            ) from error

    @contextmanager
    def _understood(self) -> Generator[None]:
        try:
            yield
        except (KeyError, ValueError) as error:
            raise UnavailableError(
                f"{self.place}: a lease's record is damaged ({error}); look at {self.machine.state_dir}/leases there"
            ) from error


async def _only(request: bytes) -> AsyncGenerator[bytes]:
    yield request


async def _after(header: bytes, chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(chunks):
        yield header
        async for chunk in chunks:
            yield chunk

"""What backends say of instances that they will take away: read beside the leases, checked, handed to each lease."""

import logging
from collections.abc import Awaitable, Callable

import attrs
from attrs import define, field

from compute_bridge.host.plugin_call import asked
from compute_bridge.model.ids import BackendName
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import BackendError
from compute_bridge.ports.notices import Interruption, SupportsNotices

logger = logging.getLogger(__name__)

LEAST_MS = 1_000
"""How long after an answer a backend is asked again: one that answers at once must not keep the bridge busy."""
LONGEST_MS = 60_000
MOST = 10_000
"""How many notices of one answer are looked at."""

Take = Callable[[BackendName, Interruption], Awaitable[None]]


@define
class NoticeReader:
    """The notices of one backend, each as often as it is told; ``take`` must not mind."""

    name: BackendName
    source: SupportsNotices
    clock: Clock
    take: Take
    _complained: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Ask and hand on, until cancelled. A backend that fails or says nonsense is told of once, and asked again."""
        wait = LEAST_MS
        while True:
            try:
                told = await asked(self.name, "next_notices", self.source.next_notices(), tuple)
            except BackendError as error:
                self._complain(f"no interruption notices just now: {error}")
                wait = min(2 * wait, LONGEST_MS)
            else:
                wait = LEAST_MS
                await self._hand_on(told)
            await self.clock.sleep_ms(wait)

    async def _hand_on(self, told: tuple[object, ...]) -> None:
        sound = [one for one in told[:MOST] if _is_sound(one)]
        if len(sound) < len(told):
            self._complain("tells interruption notices that are none, or too many; report it to the plugin's author")
        else:
            self._complained = False
        for one in sound:
            assert isinstance(one, Interruption)  # noqa: S101 - it is sound
            await self.take(self.name, one)

    def _complain(self, what: str) -> None:
        if not self._complained:
            logger.warning("backend %s: %s", self.name, what)
        self._complained = True


def _is_sound(one: object) -> bool:
    if type(one) is not Interruption:
        return False
    try:
        # Frozen is no promise: a plugin may have written past the checks.
        attrs.validate(one)
    except (TypeError, ValueError, AttributeError):
        return False
    return True

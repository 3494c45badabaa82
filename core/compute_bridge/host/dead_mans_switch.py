"""What ends each backend's instances when no bridge does, and the warning where nothing does."""

import logging
from collections.abc import Mapping, Sequence

from compute_bridge.host.plugin_call import PluginResultError, backend_call
from compute_bridge.model.ids import BackendName
from compute_bridge.ports.backend import Backend, DeadMansSwitch, SupportsDeadMansSwitch

logger = logging.getLogger(__name__)

NONE = "none"


def declared_switches(backends: Sequence[Backend]) -> Mapping[BackendName, str]:
    """Return what each backend declares, ``none`` for nothing, and say loudly where machines can be left running.

    :raises PluginResultError: if a backend declares what the port does not know; the message names it.
    :raises BackendFaultError: if it raises instead.
    """
    switches = {backend.name: _declared(backend) for backend in backends}
    for backend in backends:
        _warn(backend, switches[backend.name])
    return switches


def _warn(backend: Backend, switch: str) -> None:
    if switch == NONE:
        logger.warning(
            "backend %s has no dead man's switch: where this bridge does not come back, its instances run, and "
            "cost money, until somebody ends them by hand",
            backend.name,
        )
    if switch == DeadMansSwitch.GUEST_TIMER:
        logger.info(
            "backend %s ends an instance by a timer in the guest, which a requester who is root there can stop; "
            "then only this bridge ends it",
            backend.name,
        )
    if _leaves_bill(backend):
        logger.warning(
            "backend %s only stops an instance by its dead man's switch: where this bridge does not come back, it is "
            "billed until somebody deletes it",
            backend.name,
        )


def _declared(backend: Backend) -> str:
    if not isinstance(backend, SupportsDeadMansSwitch):
        return NONE
    with backend_call(backend.name, "dead_mans_switch"):
        switch: object = backend.dead_mans_switch
    if not isinstance(switch, DeadMansSwitch):
        words = ", ".join(DeadMansSwitch)
        raise PluginResultError(
            f"backend {backend.name}: dead_mans_switch is {switch!r}, and must be one of {words}; "
            "report it to the plugin's author"
        )
    return switch.value


def _leaves_bill(backend: Backend) -> bool:
    if not isinstance(backend, SupportsDeadMansSwitch):
        return False
    with backend_call(backend.name, "dead_mans_leaves_bill"):
        leaves: object = backend.dead_mans_leaves_bill
    if not isinstance(leaves, bool):
        # Such as a method where a property was meant: a bill that is not warned of would be the end of it.
        raise PluginResultError(
            f"backend {backend.name}: dead_mans_leaves_bill is {leaves!r}, and must be True or False; "
            "report it to the plugin's author"
        )
    return leaves

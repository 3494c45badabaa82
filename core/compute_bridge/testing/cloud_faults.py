"""The fault matrix of clouds: subclass it, give it a World, change nothing."""

from compute_bridge.testing.matrix.ending import EndingFaults
from compute_bridge.testing.matrix.making import MakingFaults
from compute_bridge.testing.matrix.seeing import SeeingFaults


class CloudFaults(MakingFaults, SeeingFaults, EndingFaults):
    """What goes wrong at a cloud, one test each: every one ends in one outcome, and with nothing left at the fake.

    It stands beside :class:`~compute_bridge.testing.backend.BackendConformance`, for backends over
    :class:`~compute_bridge.testing.physics.world.CloudWorld`. A test that the cloud cannot be put to is skipped with
    the name of what its World is not: :class:`~compute_bridge.testing.physics.world.SupportsPages` or
    :class:`~compute_bridge.testing.physics.world.SupportsClosedRegions`.
    """

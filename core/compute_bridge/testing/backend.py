"""The conformance suite of backends: subclass it, give it a World, change nothing."""

from compute_bridge.testing.promises.deadman import DeadMansSwitchPromises
from compute_bridge.testing.promises.declaring import DeclaringPromises
from compute_bridge.testing.promises.ending import EndingPromises
from compute_bridge.testing.promises.extending import ExtendingPromises
from compute_bridge.testing.promises.failing import FailingPromises
from compute_bridge.testing.promises.finding import FindingPromises
from compute_bridge.testing.promises.noticing import NoticingPromises
from compute_bridge.testing.promises.provisioning import ProvisioningPromises
from compute_bridge.testing.promises.remains import RemainsPromises


class BackendConformance(
    DeclaringPromises,
    ProvisioningPromises,
    FindingPromises,
    ExtendingPromises,
    EndingPromises,
    RemainsPromises,
    NoticingPromises,
    DeadMansSwitchPromises,
    FailingPromises,
):
    """Every promise of :class:`~compute_bridge.ports.backend.Backend`, one test each.

    Promises of an opt-in power, as :class:`~compute_bridge.ports.backend.SupportsExtend`, are tested where a backend
    has it.

    A plugin's test module is a subclass with one fixture::

        class TestAwsBackend(BackendConformance):
            @pytest.fixture
            def world(self) -> World:
                return FakeEc2()

    A test that cannot hold yet is overridden and marked ``xfail`` with a reason; any other change of a test is an
    error at collection. Pin the minor version of compute-bridge: a new version may bring new tests.
    """

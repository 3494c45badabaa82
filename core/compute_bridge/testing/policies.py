"""The conformance suites of the strategies: subclass one, give it what its fixtures name, change nothing.

::

    class TestCostPlus(RatePolicyConformance):
        @pytest.fixture
        def policy(self) -> RatePolicy:
            return CostPlus(CostPlusConfig(margin_bps=2000))
"""

from compute_bridge.testing.strategies.clearing import ClearingRuleConformance as ClearingRuleConformance
from compute_bridge.testing.strategies.rates import RatePolicyConformance as RatePolicyConformance
from compute_bridge.testing.strategies.reputation import ReputationPolicyConformance as ReputationPolicyConformance
from compute_bridge.testing.strategies.routing import RoutingPolicyConformance as RoutingPolicyConformance
from compute_bridge.testing.strategies.settlement import SettlementConformance as SettlementConformance

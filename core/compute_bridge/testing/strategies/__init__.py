"""The promises of the strategies, and questions that test them; the door is :mod:`compute_bridge.testing.policies`."""

"""A Compute Engine that speaks its REST protocol on loopback, and a World for the conformance suite."""

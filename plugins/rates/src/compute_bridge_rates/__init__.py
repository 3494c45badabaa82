"""Rate policies: fixed, and cost plus a margin."""

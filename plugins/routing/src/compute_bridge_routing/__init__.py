"""Routing policies: first fit in the order of the boot file, the cheapest offer, and availability first."""

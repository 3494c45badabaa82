"""Routing policies: first fit in the order of the boot file, and the cheapest offer."""

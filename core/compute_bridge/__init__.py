"""Sell compute from clouds and racks behind one attested identity."""

__version__ = "0.1.0"

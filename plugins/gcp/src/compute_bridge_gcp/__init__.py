"""Sell machines of Google Compute Engine."""

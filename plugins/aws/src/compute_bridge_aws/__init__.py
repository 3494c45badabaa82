"""Sell machines of Amazon EC2."""

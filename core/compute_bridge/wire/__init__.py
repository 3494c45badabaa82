"""Bytes in, values out: pure, no I/O."""

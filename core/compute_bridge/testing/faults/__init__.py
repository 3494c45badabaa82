"""Broken backends: the reference with one fault each, and the tests of the kit that must catch it."""

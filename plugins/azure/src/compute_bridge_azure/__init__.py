"""Sell virtual machines of Microsoft Azure."""

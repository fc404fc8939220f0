"""Tatar morphology as data and rules."""

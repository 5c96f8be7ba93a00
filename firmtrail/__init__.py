"""Firmtrail: what each device of a fleet runs, ran and should run, and the proof of it."""

__version__ = "0.2.0"

"""Firmtrail: what each device of a fleet runs, ran and should run, and the proof of it."""

__version__ = "0.1.0"

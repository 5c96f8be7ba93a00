"""Records what each device of a fleet runs, ran and should run, and can prove it."""

__version__ = "0.2.0"

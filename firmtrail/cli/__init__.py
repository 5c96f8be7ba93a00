"""Implements the commands. A command itself makes the imports that it needs and that take long."""

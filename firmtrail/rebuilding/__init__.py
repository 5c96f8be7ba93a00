"""Builds a view again from the log, next to the live one, and compares builds of views."""

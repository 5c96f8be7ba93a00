"""Draws charts as SVG, with the same numbers as a table."""

"""Holds one file for each resource: its bodies, its handlers and its rows of the route table."""

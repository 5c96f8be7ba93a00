"""Measures the service beside simpler ones, in one run on one machine."""

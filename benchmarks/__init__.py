"""Measures the service and simpler services in one run on one machine."""

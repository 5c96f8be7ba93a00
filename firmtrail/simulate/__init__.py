"""Simulates a fleet of devices against a running service, and checks each answer against a
model."""

"""Publishes signed checkpoints of each log, and keeps the last one outside the database."""

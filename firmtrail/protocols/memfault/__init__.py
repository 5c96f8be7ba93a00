"""Speaks Memfault's HTTP API to devices."""

"""Speaks Mender's device API to devices."""

"""Speaks hawkBit's Direct Device Integration API to devices."""

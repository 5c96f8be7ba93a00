"""Translates device protocols made by others into check-ins, reports and downloads.

Each protocol is one file or folder with its routes; it records no events of its own kind. It uses
the machinery of `http` and everything below, but neither `console` nor another protocol.
docs/protocols.md says how a protocol joins.
"""

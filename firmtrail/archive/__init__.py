"""Copies the logs to an object store or a folder, from which third parties can read and audit them.

docs/archive.md describes the copy for those who run a server, and for those who read it.
"""

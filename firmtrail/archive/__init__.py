"""Copies the logs to an object store or a folder, from which third parties can read and audit them.

docs/archive.md describes the copy for operators of a server, and for readers of the copy.
"""

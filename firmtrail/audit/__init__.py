"""Checks that a log is the one that was published, and that the rest of a database follows from it.

An auditor runs it. `growing_tree` computes a log's tiles and root from its entries alone. `source`
reads a log from a URL, a directory or a database. `verify` compares a source with the hashes of its
entries; `export` writes the verified log to a directory. `database` checks the tables that a
database stores next to the entries, `replay` its views, `access` and `access_record` who may do
what and who read what.
"""

"""The seam to the database, and its back ends: an SQLite file and PostgreSQL.

It knows nothing of logs and devices.
"""

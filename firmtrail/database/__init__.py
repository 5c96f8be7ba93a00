"""Runs SQL on either back end, an SQLite file or PostgreSQL. It knows nothing of logs and
devices."""

"""Migrates the tables, and checks that a database can be served."""

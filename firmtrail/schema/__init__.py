"""The tables: their migrations, and the checks that a database can be served."""

"""Is the log what was published, and are the views nothing but the log? What an auditor runs.

`edge` computes a log's tiles and root from its entries alone. `source` is where a log is read from:
a URL, a directory or a database. `verify` holds what a source says against what its entries hash
to; `export` makes a directory of what it verified; `database` looks at everything that a database
keeps beside the entries.
"""

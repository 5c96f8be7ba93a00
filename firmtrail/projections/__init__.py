"""Holds the views: tables whose rows all follow from the log.

Each view has one file, with its SQL, its queries, and how events change it. A view's rows carry
(log_id, generation), and the table `views` says which generation is live, so a view can be rebuilt
next to the live one. Views are written in the transaction that appends the events: a caller that
has a receipt sees its effect. A read gets its rows and the log's size from one statement.
"""

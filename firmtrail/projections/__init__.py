"""The views: tables that are nothing but the log, one file a view: its SQL, how events change it,
its queries.

A view's rows carry (log_id, generation), and `views` says which generation is live, so a view can
be built again next to the live one. Views are written in the transaction that appends the events:
a caller that holds a receipt sees its effect. A read gives its rows and the log's size from one
statement.
"""

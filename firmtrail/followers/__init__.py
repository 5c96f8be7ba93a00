"""Does something for each appended event: the contract of a follower, and the loop that runs it.

It knows nothing of databases and logs; docs/followers.md says how to add a follower.
"""

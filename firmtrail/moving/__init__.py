"""Moves a project from the database of one instance to that of another.

The logs are copied byte for byte, closed, with their origins and checkpoints. The project continues
in a new log of the other instance, which cites the end of the last one (`LogContinued`), and names
its key (`ProjectArrived`). So no log ever has two keys or two places that write to it.

The order of the steps keeps the project from being writable in two places:

1. There: nothing of the project is served. Here: `ProjectMoveStarted` closes the log, in one
   transaction (`commands/move_project.py`). From here on the project is writable nowhere. Its end
   is published.
2. The project's name is reserved there. Copies of the logs are appended, in batches (`logs`), and
   compared with what was published (`check`). The new log is added, closed, and its views are
   folded (`arrival.prepare`, `fold`).
3. One transaction there opens the new log, if nobody gave it up, and adds everything else: people,
   tokens, secrets, attributes, webhooks, the access record (`arrival.activate`). From here on the
   project is writable there.
4. Here, requests are sent on to the new address.

A crash at any place is continued by the same command. It finds the entries that are there already,
and copies the rest. Between 3 and 4 the project is writable there, and answers here as in 2.

An undo first gives the new log up there (`arrival.give_up`), in a transaction that finds it empty
or adds it: after that, 3 can't happen. Only then the log here is opened again. The copies stay, and
with them the reservation of the name: the project may move there again, and no other gets its name.
"""

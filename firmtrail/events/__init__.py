"""Declares the events: everything that can happen, as frozen structs.

`fleet` has the events of devices, releases and settings, `access` those of people and tokens,
`steering` those of rollouts and rollbacks, `log` those of the log itself. `entry` gives an event
its one text form, which is stored and hashed.
"""

"""Decides, by pure functions, what happened, what is refused and what a device should run.

Time and ids come in as arguments; nothing here reads a clock, a database or the network. `report`
identifies reports, `device_order` puts them in order, `device` decides on them, `history` names the
kind of each change, `release` decides on releases.
`control` folds a project's settings, releases, rollouts and halt, `rollout` one rollout, `offer`
the offers to a device and their outcomes, `ask` a question to a device. `target` is the one
function that decides what a device should run, and explains why.
"""

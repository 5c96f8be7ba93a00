"""The rules: pure functions that decide what happened, what is refused and what a device runs.

Time and ids come in as arguments; nothing here reads a clock, a database or the network. `device`
orders a device's reports, `history` names the kind of each change, `release` decides on releases.
`control` folds a project's settings, releases, rollouts and halt, `rollout` one rollout, `offer`
the offers to a device and their outcomes, `ask` a question to a device. `target` is the one
function that decides what a device should run, and explains why.
"""

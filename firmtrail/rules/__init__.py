"""The rules: pure functions that decide what happened, what is refused and what a device runs.

Time and ids come in as arguments; nothing here reads a clock, a database or the network. `device`
orders a device's reports, `history` names the kind of each change, `release` decides on releases.
`control` is the state of a project that decides, `rollout` one rollout and the commands on it,
`offer` what a device was offered and its outcome, `ask` a question to a device. `target` is the one
function that decides what a device should run, and explains why.
"""

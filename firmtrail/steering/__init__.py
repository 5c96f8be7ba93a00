"""What should a device run? Pure rules: time and ids come in as arguments.

`rollout` is a rollout and the commands on it, `offer` what a device was offered and how it went,
`ask` a question to a device, `control` all that decides in a project, `target` the one function
that decides and explains, `progress` how far a rollout is with a device.
"""

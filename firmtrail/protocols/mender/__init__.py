"""Speaks Mender's device API to devices, and to the tool that publishes artifacts.

`keys` and `device_tokens` are pure: they check a device's signature and make its short-lived token.
`authentication` admits a device by its key, `deployments` shows it its update and takes its word
about it, `inventory` keeps what it says of itself, and `publishing` serves mender-cli.
"""

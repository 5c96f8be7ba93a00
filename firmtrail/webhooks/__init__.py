"""Sends events and notices to the receivers that a project names: webhooks."""

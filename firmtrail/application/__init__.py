"""Joins the resources of the API, the protocols of others and the console into one application."""

"""Stores projects, people, tokens and device secrets, in tables that change.

The log records every change, but never a secret or an e-mail address. Each module holds one of
these subjects with all of its SQL; callers import the module.
"""

"""Options that are numbers, and whose refusals name them as such."""

import click


class Whole(click.IntRange):
    """A whole number."""

    name = "whole number"


class Number(click.FloatRange):
    """A number."""

    name = "number"

"""Defines number options whose error messages call them numbers."""

import click


class Whole(click.IntRange):
    name = "whole number"


class Number(click.FloatRange):
    name = "number"

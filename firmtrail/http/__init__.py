"""Serves HTTP: turns requests into calls and results into answers; decides no rules."""

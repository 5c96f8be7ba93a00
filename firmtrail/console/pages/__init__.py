"""Holds the pages, one file each: the functions that read, and their routes."""

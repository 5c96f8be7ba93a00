"""Speaks SWUpdate's general server and plain HTTP updaters to devices."""

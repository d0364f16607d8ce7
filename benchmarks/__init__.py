"""Benchmarks: each script prints a table and, with --json FILE, writes {machine, versions, date, command, rows}."""

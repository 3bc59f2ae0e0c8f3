"""Kills and breaks everything at random for some minutes, then counts: `python -m tests.chaos --help`."""

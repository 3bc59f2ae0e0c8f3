"""The command line: one file for each kind of command, `app.py` puts them together."""

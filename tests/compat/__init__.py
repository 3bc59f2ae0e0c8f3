"""Clients that people have: what each needs beside the base URL, and what it does when a batch outlasts its patience.

`make compat` installs them (`install.py`), makes every call of every client (`long_clients.py`), writes what came of
them to docs/compatibility.json and README's table from it; `test_table.py` in `make test` holds the two together.
"""

"""Sends very many requests and looks at what stays in Redis: `python -m tests.soak --help`."""

"""Clients as they come: the SDKs of several years, with their own timeouts and retries, in front of a slow batch.

`test_*.py` is the short piece in `make test`; `make clients` runs all, `long_*.py` included.
"""

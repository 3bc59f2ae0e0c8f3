"""Two versions of the project on one Redis: `python -m tests.rolling <commit>`, see docs/operations.md.

`record.py` writes the records of an old version that tests/integration/test_upgrade.py reads.
"""

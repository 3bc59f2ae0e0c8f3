"""Mutation testing: `python -m tests.mutants`. What survives is in docs/mutants.md."""

"""Random input for whatever reads what strangers send: `make fuzz` for minutes, `make test` a seeded piece of it."""

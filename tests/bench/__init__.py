"""How fast, how small: measured from this repository alone, with its own simulator and load generator."""

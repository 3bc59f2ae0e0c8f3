"""Every shipped provider against a simulator of its wire format: see tests/simulators."""

"""Upstreams: one module each, holding nothing but what is particular to it."""

"""The front: HTTP in, HTTP out.

It parses, accepts and waits; it never speaks to the batch API and never starts a stage. What is
not batched is relayed as it is.
"""

"""Upstreams of other vendors to test against, written from their documentation and sharing no code with the project.

One server holds them all, each under its name: `http://127.0.0.1:PORT/<vendor>` stands for the vendor's own host. What
a batch does next, and which call is to be struck by trouble, a test says to `Vendor` beforehand.
"""

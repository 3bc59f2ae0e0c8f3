"""An upstream to test and demonstrate against: OpenAI's Files, Batches and synchronous endpoints over HTTP.

It is written from the vendor's documents and shares no code with `web` or `tasks`, so that the two sides can only
agree by agreeing with the vendor. In a test: `with serve(batch_delay=5) as upstream: ...`; from a shell:
`python -m tests.simulator --port 9100`. Time is a clock that a test moves, so nothing needs to sleep.
"""

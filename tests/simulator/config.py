"""Every knob of the simulator, as one frozen record: a change makes a new record, and a batch keeps the one it was
created under, so that re-configuring never rewrites what is already under way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from tests.simulator.ends import End
from tests.simulator.faults import Fault

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `POST /_control/config`, `serve(...)` and the command line can set."""

    validate_delay: Seconds = 0.5  # time a batch spends validating
    batch_delay: Seconds = 5.0  # ... in_progress
    finalize_delay: Seconds = 0.5  # ... finalizing
    cancel_delay: Seconds = 0.5  # ... cancelling
    expire_after: Seconds = 86_400.0  # age at which an unfinished batch expires; 0: never
    expire_frac: Share = 0.5  # share of the lines that finish in a batch that expires or is stuck
    max_requests: Count = 50_000  # lines (and embedding inputs) in a batch
    max_file_bytes: Count = 200 * 1024 * 1024  # size of a batch's input file
    enqueued_limit: Count = 0  # lines in unfinished batches, per key and model; 0: no limit
    sync_delay: Seconds = 0.0  # time a synchronous call takes
    stream_delay: Seconds = 0.0  # time between the events of a streamed answer
    flex_unavailable: bool = False  # synchronous calls with service_tier "flex" get 429 resource_unavailable
    dimensions: Annotated[int, msgspec.Meta(ge=1)] = 8  # of an embedding that does not ask for another number
    reply_bytes: Count = 0  # size of an extra field "padding" in every answer
    list_lags: bool = False  # a batch is not in the list before its input file was deleted
    gzip: bool = False  # compress file downloads for clients that accept it
    webhook_url: str = ""  # where batch.completed and its kin are sent
    webhook_secret: str = ""  # whsec_BASE64, signs them
    faults: tuple[Fault, ...] = ()  # trouble with single calls
    ends: tuple[End, ...] = ()  # trouble with whole batches

    def merged(self, patch: Mapping[str, Any]) -> Config:
        """This configuration with some fields replaced; None puts a field back to its default."""
        fields = {**msgspec.to_builtins(self), **patch}
        return msgspec.convert({name: value for name, value in fields.items() if value is not None}, Config)

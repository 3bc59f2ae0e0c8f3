"""/v1/files: upload, list, look at, download, delete."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from flask import Blueprint, Response, request

from tests.simulator.content import chunks, freeze
from tests.simulator.errors import ApiError
from tests.simulator.files import StoredFile
from tests.simulator.routes import caller, expiry, page, state

bp = Blueprint("files", __name__)

MAX_PAGE = 10_000
#: zlib's window bits for the gzip format.
GZIP = 31


@bp.post("/v1/files")
def upload() -> dict[str, Any]:
    """Store a multipart upload; werkzeug has spooled a large one to disk already."""
    purpose, sent = request.form.get("purpose"), request.files.get("file")
    if not sent:
        raise ApiError(400, "'file' is a required property", param="file")
    if not purpose:
        raise ApiError(400, "'purpose' is a required property", param="purpose")
    filename = sent.filename or ""
    if purpose == "batch" and not filename.endswith(".jsonl"):
        raise ApiError(400, "Invalid file format for Batch API. Must be .jsonl", param="file")
    anchor, seconds = request.form.get("expires_after[anchor]"), request.form.get("expires_after[seconds]")
    lifetime = expiry("expires_after", anchor, seconds)
    return state().add_file(caller(), filename, purpose, freeze(sent.stream), lifetime, state().now()).as_json()


@bp.get("/v1/files")
def list_files() -> dict[str, Any]:
    """The key's files, newest first unless asked otherwise."""
    purpose = request.args.get("purpose")
    mine = [
        file
        for file in list(state().files.values())
        if state().file(caller(), file.id) and purpose in (None, file.purpose)
    ]
    newest_first = request.args.get("order") != "asc"
    return page(mine[::-1] if newest_first else mine, lambda file: file.id, StoredFile.as_json, MAX_PAGE)


@bp.get("/v1/files/<id>")
def retrieve(id: str) -> dict[str, Any]:
    """One file object."""
    return _file(id).as_json()


@bp.delete("/v1/files/<id>")
def delete(id: str) -> dict[str, Any]:
    """Forget a file. A batch that reads it has it open already."""
    del state().files[_file(id).id]
    return {"id": id, "object": "file", "deleted": True}


@bp.get("/v1/files/<id>/content")
def download(id: str) -> Response:
    """A file's content, streamed."""
    file = _file(id)
    zipped = state().config.gzip and "gzip" in request.headers.get("accept-encoding", "")
    body = _gzip(chunks(file.content)) if zipped else chunks(file.content)
    response = Response(body, mimetype="application/octet-stream")
    response.headers["content-disposition"] = f'attachment; filename="{file.filename}"'
    if zipped:
        response.headers["content-encoding"] = "gzip"
    else:
        response.content_length = len(file.content)
    return response


def _file(file_id: str) -> StoredFile:
    if file := state().file(caller(), file_id):
        return file
    raise ApiError(404, f"No such File object: {file_id}", param="id")


def _gzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(1, wbits=GZIP)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()

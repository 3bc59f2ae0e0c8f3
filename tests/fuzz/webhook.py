"""The webhook endpoint of a running front, with anything in body and headers, signed and unsigned."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import requests
from hypothesis import strategies as st
from standardwebhooks import Webhook

from tests.fuzz import json_texts

SECRET: Final = "whsec_c2VjcmV0IG9mIHRoZSBmdXp6"
_FIELDS = st.sampled_from(["type", "data", "id"])
_EVENTS = st.fixed_dictionaries({
    "type": st.sampled_from(["batch.completed", "batch.failed", "response.completed", ""]),
    "data": st.fixed_dictionaries({"id": st.text(max_size=10)}) | json_texts.values(_FIELDS),
})  # fmt: skip
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30).map(str.strip)
STRATEGIES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "body": json_texts.texts(_EVENTS) | json_texts.texts(json_texts.values(_FIELDS)) | st.binary(max_size=200),
    "signed": st.booleans(),
    "changed": st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "content-type"]), _VALUES, max_size=2
    ),
    "event_id": st.from_regex(r"[!-~]{1,30}", fullmatch=True),
}
STATUSES: Final = {200, 400, 401, 409}


def target(session: requests.Session, url: str) -> Any:
    """A target that sends to this front."""

    def send(body: bytes, signed: bool, changed: dict[str, str], event_id: str) -> None:
        """It is taken, or refused in OpenAI's shape."""
        at = datetime.now(UTC)
        headers: dict[str, Any] = {}
        if signed:
            text = body.decode("utf-8", "replace")
            body = text.encode()
            headers = {
                "webhook-id": event_id,
                "webhook-timestamp": str(int(at.timestamp())),
                "webhook-signature": Webhook(SECRET).sign(event_id, at, text),
            }
        headers |= {name: value.encode("latin-1") for name, value in changed.items()}
        answer = session.post(f"{url}/webhooks/openai", data=body, headers=headers, timeout=20)
        assert answer.status_code in STATUSES, answer.text
        assert answer.status_code == 200 or set(answer.json()["error"]) == {"message", "type", "param", "code"}

    return send

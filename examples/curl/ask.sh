#!/bin/sh
# One question that travels in a batch; prints the upstream's reply as it came.
set -eu

: "${OPENAI_API_KEY:?is not set}"
base_url=${OPENAI_BASE_URL:-http://127.0.0.1:3030/v1} # the one changed line
model=${OPENAI_MODEL:-gpt-6-luna}

# No --max-time: the connection is held open until the batch is done.
curl --fail-with-body --silent --show-error \
  --header "Authorization: Bearer $OPENAI_API_KEY" \
  --header "Content-Type: application/json" \
  --data @- \
  "$base_url/chat/completions" <<JSON
{"model": "$model", "messages": [{"role": "user", "content": "Why is the sky blue? One sentence."}]}
JSON

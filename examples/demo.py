"""`make demo`: llm-proxy at work in half a minute, without a key and without a bill.

Starts a simulated upstream and the stack of `make run`, sends 300 requests with the real SDK, shows
the answers, the batches they travelled in and /stats, and takes everything down again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import requests
from openai.types.chat import ChatCompletionMessageParam
from tqdm import tqdm

from tests.ports import free_port
from tests.running import Process, start
from tests.simulator.answers import echo, vector

CHAT_MODELS = ("gpt-6-luna", "gpt-6-sol")
EMBEDDING_MODEL = "text-embedding-3-small"
REQUESTS = 300
#: The callers arrive over this many seconds, so that the proxy closes several batches.
ARRIVAL_SECONDS = 3.0
START_SECONDS = 60.0
ANSWER_SECONDS = 60.0
#: More than the stack's programs are given one after another.
STOP_SECONDS = 30.0
#: A simulated batch takes seconds, so the proxy waits and looks more briskly than its defaults.
BRISK = {"LLM_PROXY_MAX_HOLD_SECONDS": "1", "LLM_PROXY_POLL_MIN_SECONDS": "0.5"}
#: The simulator answers in OpenAI's name, so its tokens are costed by OpenAI's list.
LIST = {"LLM_PROXY_PRICES": "openai"}


class DemoError(Exception):
    """Something did not start, or answers did not come."""


@dataclass(frozen=True)
class Answer:
    """What came back to one caller.

    Attributes:
        right: it is the simulator's answer to this very question.
    """

    model: str
    question: str
    text: str
    right: bool
    batch: str


def main() -> int:
    """Run the demo; exit code 0 when every answer was right, 130 after Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without it
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # ends as tidily as Ctrl-C
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"  # all of this is on loopback
    place = Path(tempfile.mkdtemp(prefix="llm-proxy-"))
    code = 1
    try:
        code = 0 if show(place) else 1
    except DemoError as error:
        print(f"\n{error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nStopped; everything is taken down.", file=sys.stderr)
        code = 130
    finally:
        if code == 1:
            print(f"\nThe demo failed. What its processes said: {place}/*.log", file=sys.stderr)
        else:
            shutil.rmtree(place)
    return code


def show(place: Path) -> bool:
    """The demo itself; True when every answer was right."""
    print(f"llm-proxy demo: {REQUESTS} requests, no key, no bill\n\nStarting …", flush=True)
    with upstream(place) as upstream_url, proxy(place, upstream_url) as url:
        print(f"  llm-proxy   {url}/v1   the processes of `make run`")
        print(f"  upstream    {upstream_url}/v1   a simulator: it answers echo:<question>\n", flush=True)
        answers = asyncio.run(ask_all(f"{url}/v1"))
        stats = requests.get(f"{url}/stats", timeout=START_SECONDS).json()
        print_answers(answers)
        print_batches(answers)
        print_stats(stats)
        print_savings(stats["usage"])
        print("\nStopping …", flush=True)
    wrong = [answer for answer in answers if not answer.right]
    for answer in wrong:
        print(f"WRONG  {answer.model}  {answer.question}  →  {answer.text}", file=sys.stderr)
    batches = len({answer.batch for answer in answers if answer.right})
    print(f"{REQUESTS - len(wrong)} of {REQUESTS} answers are right: {batches} batches, half the price.")
    print("Your turn: `make run`, then examples/python and its one changed line.")
    print("What it does and saves, live: http://127.0.0.1:3030/dashboard")
    return not wrong


@contextlib.contextmanager
def upstream(place: Path) -> Iterator[str]:
    """A simulated OpenAI on a free port; its URL."""
    options = ["--port", "0", "--validate-delay", "0.3", "--batch-delay", "2", "--finalize-delay", "0.3"]
    with running("upstream", ["tests.simulator", *options], signal.SIGTERM, place) as process:
        wait_for(process, lambda: process.text().startswith("http"))
        yield process.text().splitlines()[0]


@contextlib.contextmanager
def proxy(place: Path, upstream_url: str) -> Iterator[str]:
    """What `make run` runs, on a free port and with data of its own; its URL."""
    port = free_port()
    variables = {"PORT": str(port), "LLM_PROXY_DATA_DIR": str(place / "data"), "LLM_PROXY_UPSTREAM": upstream_url}
    with running("llm-proxy", ["tasks", "up"], signal.SIGINT, place, **BRISK, **LIST, **variables) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(process, lambda: is_ready(url))
        yield url


@contextlib.contextmanager
def running(name: str, module: list[str], end: signal.Signals, place: Path, **variables: str) -> Iterator[Process]:
    """A process of the project for one `with`; what it says goes to a file."""
    # A session of its own: Ctrl-C in the terminal reaches only the demo, which stops all in order.
    process = start(name, [sys.executable, "-m", *module], variables, place)
    try:
        yield process
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it running
        process.stop(end, STOP_SECONDS)


def wait_for(process: Process, condition: Callable[[], bool]) -> None:
    """Wait until a process that was just started works.

    Raises:
        DemoError: it ended, or it takes too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if process.popen.poll() is not None or time.monotonic() > deadline:
            raise DemoError(f"{process.name} did not start:\n{process.text()[-500:]}")
        time.sleep(0.05)


def is_ready(url: str) -> bool:
    """Whether the front may be sent traffic."""
    try:
        return requests.get(f"{url}/readyz", timeout=1).ok
    except requests.RequestException:
        return False


async def ask_all(base_url: str) -> list[Answer]:
    """All requests, each by a caller of its own who knows nothing of the others.

    Raises:
        DemoError: it takes too long.
    """
    models = [*CHAT_MODELS, EMBEDDING_MODEL]
    async with openai.AsyncOpenAI(base_url=base_url, api_key="sk-demo") as client:
        with tqdm(total=REQUESTS, unit=" answers", bar_format="  {bar:40} {n_fmt}/{total_fmt} {elapsed}") as bar:

            async def caller(number: int) -> Answer:
                await asyncio.sleep(ARRIVAL_SECONDS * number / REQUESTS)
                answer = await ask(client, models[number % len(models)], f"What is {number} + {number}?")
                bar.update()
                return answer

            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await asyncio.gather(*(caller(number) for number in range(REQUESTS)))
            except TimeoutError:
                raise DemoError(f"{REQUESTS - bar.n} answers did not come within {ANSWER_SECONDS:.0f} s") from None


async def ask(client: openai.AsyncOpenAI, model: str, question: str) -> Answer:
    """One request as an application makes it, but for the raw reply: its headers name the batch."""
    try:
        if model == EMBEDDING_MODEL:
            embedded = await client.embeddings.with_raw_response.create(model=model, input=question)
            numbers = embedded.parse().data[0].embedding
            text, right = ", ".join(map(str, numbers[:3])) + ", …", numbers == vector(question, len(numbers))
            return Answer(model, question, text, right, embedded.headers["x-batch-id"])
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": question}]
        chat = await client.chat.completions.with_raw_response.create(model=model, messages=messages)
        text = chat.parse().choices[0].message.content or ""
        return Answer(model, question, text, text == echo(question), chat.headers["x-batch-id"])
    except openai.OpenAIError as error:
        return Answer(model, question, f"{type(error).__name__}: {error}", right=False, batch="none")


def print_answers(answers: list[Answer]) -> None:
    """The first answers of each model."""
    print("\nA few answers")
    for answer in answers[:6]:
        print(f"  {answer.model:24}{answer.question:20}→ {answer.text}")


def print_batches(answers: list[Answer]) -> None:
    """The batches, by the `x-batch-id` that came with every answer."""
    print("\nThe batches they travelled in")
    for (batch, model), count in Counter((answer.batch, answer.model) for answer in answers).items():
        print(f"  {batch:40}{count:4} requests   {model}")


def print_stats(stats: dict[str, Any]) -> None:
    """/stats as a table."""
    print("\n/stats       total  successful  failed   average       p50       p99")
    for name in ("requests", "batches"):
        row = stats[name]
        times = "".join(f"{row[f'{key}_time_ms'] / 1000:8.1f} s" for key in ("avg", "p50", "p99"))
        print(f"  {name:10}{row['total']:6}{row['successful']:12}{row['failed']:8}{times}")


def print_savings(usage: dict[str, Any]) -> None:
    """What the answers would have cost with a real upstream."""
    tokens = usage["input_tokens"] + usage["output_tokens"]
    paid, standard = usage["cost_usd"], usage["standard_cost_usd"]
    print(
        f"\nSaved: ${usage['savings_usd']:.4f}. {tokens:,} tokens at ${paid:.4f} instead of ${standard:.4f},", end=" "
    )
    print("by OpenAI's list.")


if __name__ == "__main__":
    sys.exit(main())

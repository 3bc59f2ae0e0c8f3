"""The dashboard in a real browser: Debian's chromium, driven by Playwright.

`make screenshots` sets SCREENSHOTS and writes the three pictures of docs/ anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
import requests
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests import running
from tests.browser import find
from tests.integration.test_pipeline import ask
from tests.ports import free_port
from tests.running import ROOT, RedisServer, Stack
from tests.simulator.server import Simulator
from tests.system import showcase

State = Callable[[Any], None]
STATES = {"empty": showcase.empty, "busy": showcase.busy, "failing": showcase.failing}
LIMIT_BYTES = 50_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser that `make test` has found or set up."""
    path = find()
    if path is None:
        pytest.fail("The dashboard's tests need a browser: make browser")
    with sync_playwright() as playwright:
        # Without its sandbox, because tests may run as root; it sees pages of ours only.
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@dataclass
class Look:
    """A page that somebody looks at, and everything that went wrong in it."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    loaded: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self._failed(request.url, request.failure or ""))
        self.page.on("response", lambda response: self.loaded.update({response.url: response.status}))

    def _failed(self, url: str, why: str) -> None:
        if not url.endswith("/events"):  # ended with its page
            self.complaints.append(f"{url}: {why}")


@contextmanager
def looking(browser: Browser, url: str, **options: Any) -> Iterator[Look]:
    """A new page on the dashboard."""
    page = browser.new_page(**{"viewport": {"width": 1180, "height": 900}, **options})
    look = Look(page)
    try:
        page.goto(f"{url}/dashboard")
        yield look
    finally:
        page.close()


@contextmanager
def front(state: State) -> Iterator[tuple[Stack, RedisServer]]:
    """A front on a Redis of this state; nothing works on it."""
    with running.redis_server() as server, running.short_directory() as directory:
        state(server.client)
        port = free_port()
        variables = {
            "PORT": str(port),
            "REDIS_URL": server.url,
            "LLM_PROXY_VAULT_KEYS": running.VAULT_KEY,
            "LLM_PROXY_WEB_PROCESSES": "1",
        }
        made = Stack(variables, directory, port)
        made.start("web")
        try:
            if state is not showcase.failing:
                showcase.tick(server.client, 0.3, 9)
            yield made, server
        finally:
            made.stop()


@pytest.mark.parametrize("name", STATES)
def test_every_state_is_shown_without_a_complaint(browser: Browser, name: str, tmp_path: Path) -> None:
    with front(STATES[name]) as (stack, _):
        with looking(browser, stack.url) as look:
            look.page.wait_for_selector("#live[data-state=live]")
            picture = (ROOT / "docs" if os.environ.get("SCREENSHOTS") else tmp_path) / f"dashboard-{name}.png"
            look.page.screenshot(path=picture, full_page=True)
            alerts = look.page.locator(".alert").all_inner_texts()
            text = look.page.inner_text("main")
        assert look.complaints == []
        assert all(url.startswith(stack.url) for url in look.loaded)
        assert set(look.loaded.values()) == {200}
        sizes = {len(requests.get(url, timeout=10).content) for url in look.loaded if not url.endswith("/events")}

        for options in ({"viewport": {"width": 360, "height": 740}}, {"color_scheme": "dark"}):
            with looking(browser, stack.url, **options) as other:
                other.page.locator("details").evaluate_all("all => all.forEach(one => (one.open = true))")
                wide = other.page.evaluate(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                paper = other.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            assert wide == 0  # a phone scrolls in one direction
            assert other.complaints == []
            assert (paper == "rgb(22, 23, 20)") == ("color_scheme" in options)

    assert (ROOT / "docs" / f"dashboard-{name}.png").stat().st_size > 10_000
    assert sum(sizes) < LIMIT_BYTES
    assert bool(alerts) == (name == "failing")
    assert ("insufficient quota" in text) == (name == "failing")
    assert ("saved in 30 days" in text, "instead of $" in text) == (True, name != "empty")


def test_a_batch_moves_without_a_reload(browser: Browser, stack: Stack, upstream: Simulator, api_key: str) -> None:
    upstream.configure(ends=[{"model": "moves", "stuck": "in_progress"}])
    with (
        looking(browser, stack.url) as look,
        openai.OpenAI(base_url=f"{stack.url}/v1", api_key=api_key) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        look.page.evaluate("window.still = true")
        asked = pool.submit(ask, client, "hello", "moves")
        bar = look.page.get_by_role("progressbar", name="moves")
        expect(bar).to_have_attribute("aria-valuemax", "1", timeout=30_000)
        line = look.page.get_by_role("listitem").filter(has_text="moves")
        expect(line).to_contain_text("in progress", timeout=30_000)
        upstream.finish()
        expect(bar).to_have_count(0, timeout=30_000)
        assert asked.result(30) == "echo:hello"
        assert look.page.evaluate("window.still")
    assert look.complaints == []


@pytest.mark.parametrize("events", ["delete window.EventSource", "window.EventSource = class { close() {} }"])
def test_where_server_sent_events_do_not_come_through_it_polls(browser: Browser, events: str) -> None:
    with front(showcase.empty) as (stack, server):
        page = browser.new_page()
        page.add_init_script(events)
        page.goto(f"{stack.url}/dashboard")
        expect(page.get_by_text("None. A batch is made")).to_be_visible()
        showcase.busy(server.client)
        expect(page.get_by_role("progressbar")).to_have_count(7, timeout=30_000)
        page.close()


def test_it_can_be_used_by_keyboard_and_is_held_while_somebody_reads(browser: Browser) -> None:
    with front(showcase.busy) as (stack, _), looking(browser, stack.url) as look:
        page = look.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the figures"
        seen = []
        for _ in range(8):
            page.keyboard.press("Tab")
            seen.append(
                page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-labelledby')")
            )
        assert {"live", "h-queued", "h-models", "h-failures"} <= set(seen)
        button = page.get_by_role("button", name="Live")
        button.focus()
        page.keyboard.press("Enter")
        held = page.get_by_role("button", name="Held")
        expect(held).to_have_attribute("aria-pressed", "false")
        before = page.inner_text("footer")
        page.wait_for_timeout(3000)
        assert page.inner_text("footer") == before
        page.keyboard.press("Enter")
        expect(page.locator("footer")).not_to_have_text(before, timeout=10_000)
        assert page.evaluate("document.activeElement.id") == "live"
        page.locator("#by-day summary").focus()
        page.keyboard.press("Enter")
        row = page.locator("#by-day tbody tr").first
        expect(row).to_be_visible()
        before = page.inner_text("footer")
        expect(page.locator("footer")).not_to_have_text(before, timeout=10_000)
        expect(row).to_be_visible()  # what somebody has opened stays so
        names = page.locator("svg[role=img]").evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
        assert len(names) == 3
        assert all(names)


def test_with_1000_batches_it_is_small_and_its_policy_strict() -> None:
    with front(showcase.crowd) as (stack, _):
        answer = requests.get(f"{stack.url}/dashboard", timeout=10)
        rest = [requests.get(f"{stack.url}/dashboard/{name}", timeout=10) for name in ("dashboard.css", "dashboard.js")]

    assert "and 980 more" in answer.text
    assert len(answer.content) + sum(len(part.content) for part in rest) < LIMIT_BYTES
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert " style=" not in answer.text
    assert "http:" not in answer.text.replace("http://www.w3.org", "")


def test_with_1000_batches_a_page_is_made_in_less_than_100_ms() -> None:
    with front(showcase.crowd) as (stack, server):
        [worker] = stack.workers_of_web()
        requests.get(f"{stack.url}/dashboard", timeout=30)  # reads the price list

        def spent() -> float:
            """CPU seconds of the front and of Redis: what else the machine does is not measured."""
            redis = server.client.info("cpu")
            ours = int(Path(f"/proc/{worker}/schedstat").read_text().split()[0]) / 1e9
            return float(ours + redis["used_cpu_user"] + redis["used_cpu_sys"])

        took = []
        for _ in range(12):
            time.sleep(1.1)  # else it would be the page of a moment ago
            before = spent()
            assert requests.get(f"{stack.url}/dashboard", timeout=30).ok
            took.append(spent() - before)

    assert max(took) < 0.1
    assert min(took) > 0.001  # each was made anew


def test_a_models_name_is_text_and_nothing_else(browser: Browser) -> None:
    def hostile(redis: Any) -> None:
        showcase.empty(redis)
        showcase.batch(redis, "<img src=x onerror=alert(1)>\t\n'\"")

    with front(hostile) as (stack, _), looking(browser, stack.url) as look:
        expect(look.page.get_by_text("<img src=x")).to_be_visible()
        assert look.page.locator("img").count() == 0
    assert look.complaints == []

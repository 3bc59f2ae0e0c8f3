// Keeps the figures live. The server renders them; only what differs is changed here, so that focus, selection
// and scroll positions stay. Server-sent events; where they do not come through, or something on the way
// holds them back, polling.
"use strict";

(() => {
  const main = document.getElementById("figures");
  const button = document.getElementById("live");
  const POLL_MS = 5000;
  const SILENCE_MS = 8000;
  let source = null;
  let timer = 0;

  function morph(from, to) {
    const olds = [...from.childNodes], news = [...to.childNodes];
    news.forEach((want, i) => {
      const have = olds[i];
      if (!have) from.append(want);
      else if (have.nodeType !== want.nodeType || have.nodeName !== want.nodeName || have.id !== want.id) have.replaceWith(want);
      else if (want.nodeType !== Node.ELEMENT_NODE) {
        if (have.data !== want.data) have.data = want.data;
      } else if (!have.isEqualNode(want)) {
        for (const { name } of [...have.attributes]) {
          if (!want.hasAttribute(name) && name !== "open") have.removeAttribute(name); // what somebody opened stays so
        }
        for (const { name, value } of want.attributes) if (have.getAttribute(name) !== value) have.setAttribute(name, value);
        morph(have, want);
      }
    });
    olds.slice(news.length).forEach((extra) => extra.remove());
  }

  function show(html) {
    const page = new DOMParser().parseFromString(`<main>${html}</main>`, "text/html");
    morph(main, page.body.firstChild);
    say("Live");
  }

  function say(word) {
    button.textContent = word;
    button.dataset.state = word.toLowerCase();
  }

  async function poll() {
    try {
      const answer = await fetch("/dashboard/figures", { cache: "no-store" });
      if (answer.status === 401) location.reload();
      else if (answer.ok) show(await answer.text());
      else say("Away");
    } catch {
      say("Away");
    }
    if (!source && button.getAttribute("aria-pressed") === "true") timer = setTimeout(poll, POLL_MS);
  }

  function start() {
    if (!window.EventSource) return poll();
    source = new EventSource("/dashboard/events");
    source.onmessage = (event) => {
      listen();
      show(event.data);
    };
    source.onerror = () => say("Away"); // it tries again by itself
    listen();
  }

  function listen() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      stop();
      poll();
    }, SILENCE_MS);
  }

  function stop() {
    if (source) source.close();
    source = null;
    clearTimeout(timer);
  }

  button.addEventListener("click", () => {
    const live = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(live));
    stop();
    if (live) start();
    say(live ? "Live" : "Held");
  });
  // A page that nobody sees asks for nothing.
  document.addEventListener("visibilitychange", () => {
    stop();
    if (!document.hidden && button.getAttribute("aria-pressed") === "true") start();
  });
  window.addEventListener("pagehide", stop);

  button.hidden = false;
  start();
})();

// The server's events: one stream for the whole page (docs/reference/events.md). EventSource reads it; with a key,
// which EventSource can't send, fetch does, and comes back with Last-Event-ID as EventSource would.

import { address, send, ServerError } from "./api.js";
import { SseDecoder } from "./framing.js";
import { key } from "./key.js";

const HISTORY_SECONDS = 300;
const RETRY_MS = 2000;
// A tab that nobody sees gives its connection back: browsers have six for a server, and other tabs need them.
const HIDDEN_MS = 60_000;
// Two snapshots and a heartbeat have not come: the connection is dead, whatever TCP believes.
const SILENT_MS = 20_000;

export class Feed extends EventTarget {
  /** wait, open, lost, closed (the server refuses) */
  state = "wait";
  /** Why it is not open. */
  reason = "";
  /** The last snapshot, and when it arrived (performance.now). */
  snapshot = null;
  receivedAt = 0;
  #last = "";
  #close = () => {};

  start() {
    this.#close();
    this.#enter("wait");
    if (key()) this.#fetch();
    else this.#listen();
  }

  /** Pause while the tab is hidden. The server replays the events since then, as far as it keeps them. */
  followVisibility() {
    let timer = 0;
    let isPaused = false;
    document.addEventListener("visibilitychange", () => {
      clearTimeout(timer);
      if (document.hidden) {
        timer = setTimeout(() => {
          isPaused = true;
          this.#close();
        }, HIDDEN_MS);
      } else if (isPaused) {
        isPaused = false;
        this.start();
      }
    });
  }

  /** Forget what was seen, which another key may not see, and begin anew. */
  restart() {
    this.snapshot = null;
    this.receivedAt = 0;
    this.#last = "";
    this.dispatchEvent(new Event("reset"));
    this.start();
  }

  #listen() {
    const source = new EventSource(this.#url());
    this.#close = () => source.close();
    source.onopen = () => this.#enter("open");
    for (const name of ["snapshot", "request"]) {
      source.addEventListener(name, (event) => this.#take(name, JSON.parse(event.data), event.lastEventId));
    }
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) this.#refused();
      else this.#enter("lost", "The connection to the server broke; the page connects again by itself.");
    };
  }

  /** EventSource hides a refusal's status: ask once more, by fetch, which may ask for a key too. */
  async #refused() {
    this.#fetch();
  }

  async #fetch() {
    let closed = false;
    let abort = new AbortController();
    this.#close = () => {
      closed = true;
      abort.abort();
    };
    while (!closed) {
      try {
        const headers = this.#last ? { "Last-Event-ID": this.#last } : {};
        const response = await send(this.#url().href, { accept: "text/event-stream", headers, signal: abort.signal });
        this.#enter("open");
        await this.#read(response, abort);
        if (!closed) this.#enter("lost", "The server ended the connection; the page connects again by itself.");
      } catch (error) {
        if (closed) return;
        if (error instanceof ServerError && error.status < 500) return this.#enter("closed", error.message);
        this.#enter("lost", error instanceof ServerError ? error.message : "The server can't be reached.");
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      abort = new AbortController();
    }
  }

  async #read(response, abort) {
    const decoder = new SseDecoder();
    const text = new TextDecoder();
    const reader = response.body.getReader();
    for (;;) {
      const silence = setTimeout(() => abort.abort(), SILENT_MS);
      const { done, value } = await reader.read().finally(() => clearTimeout(silence));
      if (done) return;
      for (const event of decoder.take(text.decode(value, { stream: true }))) this.#take(event.name, event.data, event.id);
    }
  }

  #url() {
    const url = address("api/events");
    url.searchParams.set("seconds", HISTORY_SECONDS);
    return url;
  }

  #take(name, data, id) {
    if (id) this.#last = id;
    this.receivedAt = performance.now();
    if (name === "snapshot") this.snapshot = data;
    this.dispatchEvent(new CustomEvent(name, { detail: data }));
  }

  #enter(state, reason = "") {
    this.state = state;
    this.reason = reason;
    this.dispatchEvent(new Event("state"));
  }
}

export const feed = new Feed();

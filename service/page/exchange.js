// One question and its answer over the wire, by one of three transports; it can be cut, taken up again, and stopped.
//
//   ndjson, sse    POST api/chat, read by fetch; resumable when asked for: GET of the stream's address after a cursor
//   eventsource    POST api/chat with "background", then the browser's own EventSource on the address that it got
//
// The listener gets opened(text), bytes(Uint8Array) or event(text), record(object), note(text, isBad).

import { address, send, ServerError } from "./api.js";
import { NdjsonDecoder, SseDecoder } from "./framing.js";

const TYPES = { ndjson: "application/x-ndjson", sse: "text/event-stream" };

export const isTerminal = (record) => record.done === true || "error" in record;

/** The answer's connection ended before its last record. */
export class Broken extends Error {}

export class Exchange {
  #abort = null;
  #source = null;
  #endSource = null;
  #cursor = "";
  /** The stream's own address; empty when the server did not make it resumable. */
  stream = "";
  /** running, cut, broken, ended */
  state = "running";

  constructor(transport, listener) {
    this.transport = transport;
    this.listener = listener;
  }

  get isResumable() {
    return this.stream !== "";
  }

  get canResume() {
    return this.stream !== "" && (this.state === "cut" || this.state === "broken");
  }

  /** Send the question and read the answer to its end, or until it is cut. Throws Broken, ServerError, TypeError. */
  async start(body, resumable) {
    if (this.transport === "eventsource") {
      await this.#reading(async () => {
        const made = await this.#post({ ...body, background: true }, false);
        this.stream = linkOf(await made.json(), made);
        await this.#listen();
      });
    } else {
      await this.#reading(async () => {
        const response = await this.#post({ ...body, ...(resumable ? { resumable: true } : {}) }, resumable);
        await this.#read(response);
      });
    }
  }

  /** Take the answer up after the last record that arrived. */
  async resume() {
    this.state = "running";
    await this.#reading(async () => {
      if (this.transport === "eventsource") return this.#listen();
      const response = await this.#get(this.#cursor);
      this.listener.opened(headOf("GET", pathOf(response.url), response));
      await this.#read(response);
    });
  }

  /** Close the connection, as a train in a tunnel does; a resumable answer goes on without a reader. */
  cut() {
    this.#leave("cut");
  }

  /** End the answer: its generation too. */
  async stop() {
    this.#leave("ended");
    this.state = "ended";
    if (this.stream) await send(this.stream, { method: "DELETE" });
  }

  /** End a resumable answer while the page goes away, which no longer waits for anything. */
  abandon() {
    if (!this.stream || this.state === "ended") return;
    send(this.stream, { method: "DELETE", keepalive: true }).catch(() => {}); // The server ends it when its time is over.
  }

  /** The whole answer's records from the server's memory, to compare with those that arrived. */
  async whole() {
    const response = await this.#get("", "ndjson");
    return new NdjsonDecoder().take(await response.text()).map((each) => each.data);
  }

  #leave(state) {
    if (this.state !== "running") return;
    this.state = state;
    this.#abort?.abort();
    this.#source?.close();
    this.#endSource?.();
  }

  async #reading(read) {
    this.#abort = new AbortController();
    try {
      await read();
    } catch (error) {
      if (this.state !== "running") return; // Cut or stopped by the person.
      this.state = "broken";
      throw error instanceof ServerError || error instanceof SyntaxError ? error : new Broken(
        "The connection ended before the answer did.", { cause: error });
    }
  }

  async #post(body, resumable) {
    const response = await send("api/chat", {
      method: "POST", body, accept: TYPES[this.transport] ?? "application/json", signal: this.#abort.signal,
    });
    if (resumable) this.stream = response.headers.get("Content-Location") ?? "";
    this.listener.opened(headOf("POST", pathOf(response.url), response));
    return response;
  }

  #get(cursor, transport = this.transport) {
    const url = address(this.stream);
    if (cursor !== "") url.searchParams.set("after", cursor);
    return send(url.href, { accept: TYPES[transport], signal: this.#abort.signal });
  }

  async #read(response) {
    const isSse = (response.headers.get("Content-Type") ?? "").startsWith(TYPES.sse);
    const decoder = isSse ? new SseDecoder() : new NdjsonDecoder();
    const text = new TextDecoder();
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      this.listener.bytes(value);
      for (const event of decoder.take(text.decode(value, { stream: true }))) this.#take(event.data, event.id);
    }
    if (this.state === "running") throw new Broken("The answer ended without its last record.");
  }

  #listen() {
    const url = address(this.stream);
    if (this.#cursor !== "") url.searchParams.set("after", this.#cursor);
    const source = (this.#source = new EventSource(url));
    this.listener.opened(`new EventSource("${url.pathname}")\nEvents as the browser hands them over: it shows a page no bytes of them.`);
    return new Promise((resolve, reject) => {
      this.#endSource = resolve;
      source.onmessage = (event) => {
        this.listener.event(`${event.lastEventId ? `id: ${event.lastEventId}\n` : ""}data: ${event.data}\n\n`);
        this.#take(JSON.parse(event.data), event.lastEventId);
        if (this.state !== "running") resolve(source.close());
      };
      source.onerror = () => {
        if (source.readyState === EventSource.CLOSED) reject(new Broken("EventSource gave up: the server refused it."));
        else this.listener.note("The connection broke; EventSource connects again by itself.", true);
      };
    });
  }

  #take(record, cursor) {
    if (cursor !== "" && cursor !== undefined) this.#cursor = cursor;
    if (isTerminal(record)) this.state = "ended";
    this.listener.record(record);
  }
}

/** The address of a background stream: with its own token, where the server gave one. */
function linkOf(made, response) {
  const link = made?.link ?? response.headers.get("Content-Location");
  if (!link) throw new ServerError("The server made no background stream.", response.status);
  return link;
}

const SHOWN = ["content-type", "content-location", "x-request-id"];

function headOf(method, path, response) {
  const headers = SHOWN.map((name) => [name, response.headers.get(name)]).filter(([, value]) => value);
  return [`${method} ${path}  →  ${response.status} ${response.statusText}`,
    ...headers.map(([name, value]) => `${name}: ${value}`)].join("\n");
}

/** A token in a query is a secret; the path is not. */
const pathOf = (url) => new URL(url).pathname;

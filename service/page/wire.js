// The bytes of an answer as they arrived: when, after which gap, and what they were.

import { atEnd, byId, el, onceAFrame, setText, svg } from "./dom.js";
import { bytes, count, rate, seconds } from "./format.js";

const MOST_ROWS = 400;
// A gap that a person notices.
const SLOW_SECONDS = 0.5;
const log = byId("wire-log");

export class Wire {
  #began = performance.now();
  #last = 0;
  #rows = [];
  #hidden = 0;
  #draw = onceAFrame(() => this.flush());
  #decoder = new TextDecoder();
  #chunks = 0;
  #bytes = 0;
  #gap = 0;
  #firstAt = 0;
  #lastAt = 0;
  #records = 0;
  #end = null;

  constructor() {
    log.replaceChildren();
    setText(byId("wire-head"), "Sent. Waiting for the answer's head.");
    this.flush();
  }

  opened(head) {
    setText(byId("wire-head"), head);
    this.#last = performance.now();
  }

  bytes(data) {
    this.#arrived(data.byteLength, readable(this.#decoder, data));
  }

  event(text) {
    this.#arrived(new TextEncoder().encode(text).byteLength, text);
  }

  note(text, isBad = false) {
    this.#rows.push(el("div", { class: `chunk note${isBad ? " bad" : ""}` }, `${this.#at()}  ${text}`));
    this.#draw();
  }

  /** Count a record: the first one that says something ends the wait for it. */
  record(record) {
    const said = record.message?.content || record.message?.thinking || record.message?.tool_calls;
    if (said) {
      this.#lastAt = performance.now();
      this.#firstAt ||= this.#lastAt;
      this.#records += 1;
    }
    if (record.done) this.#end = record;
    this.#draw();
  }

  get #seconds() {
    return (performance.now() - this.#began) / 1000;
  }

  #at() {
    return `+${this.#seconds.toFixed(3)}`;
  }

  #arrived(size, text) {
    const now = performance.now();
    const gap = (now - (this.#last || this.#began)) / 1000;
    this.#last = now;
    this.#chunks += 1;
    this.#bytes += size;
    if (this.#chunks > 1) this.#gap = Math.max(this.#gap, gap);
    this.#rows.push(el("div", { class: gap > SLOW_SECONDS ? "chunk slow" : "chunk" },
      el("div", { class: "chunk-head" }, el("span", {}, this.#at()), bar(gap), el("span", { class: "gap" }, seconds(gap)), el("span", {}, bytes(size))),
      el("pre", {}, marked(text))));
    this.#draw();
  }

  /** Show what has arrived since the last frame; the oldest rows give way. */
  flush() {
    const follow = atEnd(log);
    const rows = this.#rows.splice(0);
    this.#hidden += Math.max(0, rows.length - MOST_ROWS);
    log.append(...rows.slice(-MOST_ROWS));
    while (log.childElementCount > MOST_ROWS) {
      log.firstElementChild.remove();
      this.#hidden += 1;
    }
    if (follow) log.scrollTop = log.scrollHeight;
    this.#figures();
  }

  #figures() {
    const show = (name, text) => setText(byId(`figure-${name}`), text);
    show("first", this.#firstAt ? seconds((this.#firstAt - this.#began) / 1000) : "–");
    show("chunks", this.#chunks ? count(this.#chunks) : "–");
    show("bytes", this.#chunks ? bytes(this.#bytes) : "–");
    show("gap", this.#chunks > 1 ? seconds(this.#gap) : "–");
    const end = this.#end;
    // Records may join tokens: until the last record counts them, this is the least that it can be.
    const span = (this.#lastAt - this.#firstAt) / 1000;
    show("tokens", end?.eval_count ? count(end.eval_count) : this.#records ? `≥ ${count(this.#records)}` : "–");
    show("rate", end?.eval_duration ? rate(end.eval_count / (end.eval_duration / 1e9)) : span > 0.2 ? `≥ ${rate(this.#records / span)}` : "–");
  }
}

/** Bytes that are not whole characters (the chunk ends inside one) are shown in the next chunk. */
const readable = (decoder, data) => decoder.decode(data, { stream: true });

/** A gap as a bar: 1 ms and less is nothing, 10 s and more is full, in between by its logarithm. */
function bar(gap) {
  const share = Math.min(1, Math.max(0, Math.log10(gap * 1000) / 4));
  return svg("svg", { viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { x: 0, width: share * 100, height: 1 }));
}

/** The text with its line ends made visible. */
function marked(text) {
  const parts = text.split("\n");
  return parts.flatMap((part, index) => (index < parts.length - 1 ? [part, el("span", { class: "brk" }, "⏎"), "\n"] : [part]));
}

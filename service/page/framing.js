// Text of a stream to its records, as it comes in: NDJSON lines, and server-sent events (WHATWG HTML, section 9.2.6).

/** Complete lines of a text that arrives in pieces. */
class Lines {
  #rest = "";

  constructor(end) {
    this.end = end;
  }

  /** Return the lines that `text` completes. */
  take(text) {
    const all = this.#rest + text;
    // A carriage return at the very end may be half of a line's end.
    const safe = all.endsWith("\r") ? all.length - 1 : all.length;
    const lines = all.slice(0, safe).split(this.end);
    this.#rest = lines.pop() + all.slice(safe);
    return lines;
  }
}

export class NdjsonDecoder {
  #lines = new Lines("\n");

  /** Return `{ data, id }` for each record; blanks are heartbeats. */
  take(text) {
    const records = this.#lines.take(text).filter((line) => line.trim()).map((line) => JSON.parse(line));
    return records.map((data) => ({ data, id: data.cursor ?? "", name: "message" }));
  }
}

export class SseDecoder {
  #lines = new Lines(/\r\n|\n|\r/);
  #id = "";
  #name = "";
  #data = [];
  retry = 0;

  /** Return `{ data, id, name }` for each event that `text` completes; `data` is parsed JSON. */
  take(text) {
    const events = [];
    for (const line of this.#lines.take(text)) {
      if (line) this.#field(line);
      else if (this.#data.length) events.push(this.#event());
    }
    return events;
  }

  #event() {
    const text = this.#data.join("\n");
    const event = { id: this.#id, name: this.#name || "message", data: text === "[DONE]" ? text : JSON.parse(text) };
    this.#data = [];
    this.#name = "";
    return event;
  }

  #field(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#name = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
  }
}

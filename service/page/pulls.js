// Pulls with their progress: bytes, speed and the time that is left. A pull that is cancelled goes on where it stopped.

import { explain, send } from "./api.js";
import { byId, el, setText } from "./dom.js";
import { NdjsonDecoder } from "./framing.js";
import { bytes, seconds } from "./format.js";

const SPEED_SECONDS = 5;

class Pull {
  #abort = new AbortController();
  #parts = new Map(); // Of each file: total and completed bytes.
  #seen = []; // [seconds, bytes] of the last few seconds.

  constructor(name, done) {
    this.name = name;
    this.done = done;
    this.bar = el("progress", { "aria-label": `Pull of ${name}` });
    this.line = el("p", { class: "hint" }, "Asking the hub.");
    this.button = el("button", { type: "button", class: "quiet", click: () => this.#abort.abort() }, "Cancel");
    this.node = el("div", { class: "progress" }, el("b", {}, name), this.button, this.bar, this.line);
  }

  async run() {
    try {
      const response = await send("api/pull", {
        method: "POST", body: { model: this.name }, accept: "application/x-ndjson", signal: this.#abort.signal,
      });
      await this.#read(response);
      this.#end("Pulled.", false);
      await this.done();
    } catch (error) {
      if (this.#abort.signal.aborted) this.#end("Cancelled. The next pull goes on where this one stopped.", false);
      else this.#end(`${explain(error)}${this.#advice}`, true);
    }
  }

  async #read(response) {
    const decoder = new NdjsonDecoder();
    const text = new TextDecoder();
    const reader = response.body.getReader();
    for (let last = null; ;) {
      const { done, value } = await reader.read();
      if (done) {
        if (last?.status === "success") return;
        throw new Error("The connection ended before the pull did. Pull again to go on.");
      }
      for (const { data } of decoder.take(text.decode(value, { stream: true }))) {
        if (data.error) throw new Error(data.error);
        last = data;
        this.#show(data);
      }
    }
  }

  /** A name without an organisation is one of Ollama's own registry. */
  get #advice() {
    return this.name.includes("/") ? "" : " Models of Ollama's registry can't be loaded here: name a repository on Hugging Face, such as hf.co/Qwen/Qwen3-0.6B.";
  }

  #show({ status, digest, total, completed }) {
    if (!total) {
      if (!this.#parts.size) setText(this.line, status);
      return;
    }
    this.#parts.set(digest ?? status, { total, completed: completed ?? 0 });
    const parts = [...this.#parts.values()];
    const all = parts.reduce((sum, each) => sum + each.total, 0);
    const have = parts.reduce((sum, each) => sum + each.completed, 0);
    this.bar.max = all;
    this.bar.value = have;
    const speed = this.#speed(have);
    const left = speed > 0 && have < all ? ` · ${seconds(Math.ceil((all - have) / speed))} left` : "";
    setText(this.line, `${bytes(have)} of ${bytes(all)}${speed > 0 ? ` · ${bytes(speed)}/s` : ""}${left}`);
  }

  #speed(have) {
    const now = performance.now() / 1000;
    this.#seen.push([now, have]);
    while (now - this.#seen[0][0] > SPEED_SECONDS) this.#seen.shift();
    const [from, had] = this.#seen[0];
    return now - from > 0.5 ? (have - had) / (now - from) : 0;
  }

  #end(text, isBad) {
    setText(this.line, text);
    this.line.classList.toggle("bad", isBad);
    this.line.setAttribute("role", isBad ? "alert" : "status");
    this.bar.hidden = true;
    setText(this.button, "Close");
    this.button.addEventListener("click", () => this.node.remove());
  }
}

export function start(done) {
  // Before this, the browser itself would send the form.
  byId("pull").disabled = false;
  byId("pull-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = byId("pull-name").value.trim();
    if (!name) return;
    byId("pull-name").value = "";
    const pull = new Pull(name, done);
    byId("pulls").prepend(pull.node);
    pull.run();
  });
}

// The conversation as it is shown. An answer grows in place: text is appended to text nodes, once a frame.

import { announce, atEnd, byId, el, onceAFrame, setText } from "./dom.js";
import { count, rate, seconds } from "./format.js";
import { layout, looksLikeJson } from "./partial_json.js";

const NAMES = { user: "You", assistant: "Model", system: "System", tool: "Tool" };
// Above this length JSON is shown as it stands: laying it out anew each frame would cost more than it helps.
const MOST_LAID_OUT = 40_000;
const box = byId("transcript");

/** Keep the end in sight while `change` is made, unless the reader has scrolled away from it. */
export function following(change) {
  const follow = atEnd(box);
  change();
  if (follow) box.scrollTop = box.scrollHeight;
}

export function clear() {
  box.replaceChildren();
}

export function toEnd() {
  box.scrollTop = box.scrollHeight;
}

/** The empty conversation, with questions to begin with. */
export function welcome(asks, ask) {
  box.replaceChildren(el("div", { class: "welcome" },
    el("b", {}, "Ask the model something"),
    "The answer streams in here; beside it you see the bytes that carried it.",
    el("div", { class: "welcome-asks" }, asks.map((text) => el("button", {
      type: "button", class: "secondary", click: () => ask(text),
    }, text)))));
}

/** One message of the conversation. */
export class Turn {
  constructor(role, name = "") {
    box.querySelector(".welcome")?.remove();
    this.head = el("div", { class: "turn-head" }, el("h3", {}, name || NAMES[role] || role));
    this.node = el("article", { class: "turn", "data-role": role }, this.head);
    box.append(this.node);
  }

  add(...nodes) {
    this.node.append(...nodes);
    return this;
  }
}

export function showMessage(message) {
  const turn = new Turn(message.role, message.tool_name && `Result of ${message.tool_name}`);
  if (message.content) turn.add(el("div", { class: "said" }, message.content));
  if (message.images?.length) {
    turn.add(el("div", { class: "pictures" }, message.images.map((data, index) =>
      el("img", { class: "picture", src: `data:image/*;base64,${data}`, alt: `Image ${index + 1} of the message` }))));
  }
  return turn;
}

/** An answer that grows. */
export class AnswerTurn extends Turn {
  #pending = { thinking: "", content: "" };
  #draw = onceAFrame(() => this.flush());
  #text = new Text("");
  #thought = null;
  #thoughtFrom = 0;
  #asJson;
  message = { role: "assistant", content: "" };

  constructor(model, asJson) {
    super("assistant", model);
    this.model = model;
    this.#asJson = asJson;
    this.node.classList.add("live");
    this.said = el("div", { class: "said" }, this.#text);
    this.calls = el("div");
    this.trouble = el("div");
    this.foot = el("div", { class: "turn-foot" });
    this.add(this.said, this.calls, this.trouble, this.foot);
  }

  take(message) {
    this.#pending.thinking += message.thinking ?? "";
    this.#pending.content += message.content ?? "";
    for (const call of message.tool_calls ?? []) this.#call(call);
    this.#draw();
  }

  /** Show what has come since the last frame. */
  flush() {
    const { thinking, content } = this.#pending;
    this.#pending = { thinking: "", content: "" };
    following(() => {
      if (thinking) this.#think(thinking);
      if (content) this.#say(content);
    });
  }

  #think(text) {
    if (!this.#thought) {
      const body = new Text("");
      const summary = el("summary", {}, "Thinking");
      this.#thought = { body, summary };
      this.#thoughtFrom = performance.now();
      this.said.before(el("details", { class: "thought" }, summary, el("div", { class: "thinking" }, body)));
    }
    this.message.thinking = (this.message.thinking ?? "") + text;
    this.#thought.body.appendData(text);
    setText(this.#thought.summary, `Thinking, ${seconds((performance.now() - this.#thoughtFrom) / 1000)}`);
  }

  #say(text) {
    if (!this.message.content) this.#endThought();
    this.message.content += text;
    this.#text.appendData(text);
    const { content } = this.message;
    if (!this.#asJson || !looksLikeJson(content)) return;
    if (content.length < MOST_LAID_OUT) this.#sayJson();
    else if (!this.#text.isConnected) this.said.replaceChildren(this.#text);
  }

  #sayJson() {
    this.said.classList.add("json");
    this.said.replaceChildren(...layout(this.message.content).map(([kind, part]) => (kind ? el("span", { class: kind }, part) : part)));
  }

  #endThought() {
    if (!this.#thought || this.#thought.ended) return;
    this.#thought.ended = true;
    setText(this.#thought.summary, `Thought for ${seconds((performance.now() - this.#thoughtFrom) / 1000)}`);
  }

  #call(call) {
    (this.message.tool_calls ??= []).push(call);
    following(() => this.calls.append(callCard(call)));
  }

  /** The answer's last record, or its replay from what the browser kept. */
  finish(record) {
    this.flush();
    this.#endThought();
    this.node.classList.remove("live");
    this.said.hidden = !this.message.content;
    if (record) setText(this.foot, footOf(record));
  }

  /** Show an answer that the browser kept. */
  restore(message) {
    this.take(message);
    this.finish(null);
    if (this.#thought) setText(this.#thought.summary, "Thought");
    setText(this.foot, "");
  }

  /** A failure, beside what has come; `buttons` are what the person can do about it. */
  fail(title, text, buttons = []) {
    this.flush();
    this.node.classList.remove("live");
    this.said.hidden = !this.message.content;
    following(() => this.trouble.replaceChildren(el("div", { class: "notice error" }, el("div", { class: "row" },
      el("div", {}, el("b", {}, title), " ", text), buttons))));
    announce(`${title} ${text}`);
  }

  /** A sentence that is not a failure, with what can be done. */
  pause(text, buttons) {
    this.flush();
    this.node.classList.remove("live");
    following(() => this.trouble.replaceChildren(el("div", { class: "notice" }, el("div", { class: "row" }, text, buttons))));
    announce(text);
  }

  goOn() {
    this.trouble.replaceChildren();
    this.node.classList.add("live");
    this.said.hidden = false;
  }

  prove(text, isGood) {
    following(() => this.trouble.replaceChildren(el("p", { class: isGood ? "proof" : "notice error" }, `${isGood ? "✓ " : ""}${text}`)));
    announce(text);
  }
}

function callCard(call) {
  const made = call.function ?? {};
  return el("div", { class: "call" },
    el("h4", {}, el("span", {}, "Tool call"), made.name ?? ""),
    el("pre", { tabindex: 0, role: "group", "aria-label": `Arguments of ${made.name}` }, JSON.stringify(made.arguments ?? {}, null, 2)));
}

/** A form below the calls for what the tools answered. */
export function resultForm(turn, calls, done) {
  const fields = calls.map((call, index) => {
    const id = `result-${crypto.randomUUID?.() ?? Math.random()}-${index}`;
    const name = call.function?.name ?? "";
    return { name, id: call.id ?? "", label: el("label", { for: id }, `Result of ${name}`), text: el("textarea", { id, rows: 2, class: "code" }) };
  });
  const form = el("form", {
    submit: (event) => {
      event.preventDefault();
      card.remove();
      done(fields.map(({ name, id, text }) => ({
        role: "tool", tool_name: name, content: text.value, ...(id ? { tool_call_id: id } : {}),
      })));
    },
  }, fields.flatMap(({ label, text }) => [label, text]), el("button", { class: "secondary" }, "Send the results"));
  const card = el("div", { class: "call" }, form);
  following(() => turn.calls.append(card));
}

function footOf(record) {
  const rates = record.eval_duration ? `${rate(record.eval_count / (record.eval_duration / 1e9))} tokens/s` : "";
  const load = record.load_duration > 5e8 ? `loaded in ${seconds(record.load_duration / 1e9)}` : "";
  const reason = record.done_reason && record.done_reason !== "stop" ? `ended by ${record.done_reason}` : "";
  const parts = [`${count(record.prompt_eval_count)} + ${count(record.eval_count)} tokens`, seconds((record.total_duration ?? 0) / 1e9), rates, load, reason];
  return parts.filter(Boolean).join(" · ");
}

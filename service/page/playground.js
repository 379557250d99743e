// The playground: a conversation, its request, and one exchange at a time.

import { explain, ServerError } from "./api.js";
import { catalog } from "./catalog.js";
import * as composer from "./composer.js";
import { announce, byId, el, kept, setText } from "./dom.js";
import { Broken, Exchange } from "./exchange.js";
import { count, shortName } from "./format.js";
import { looksLikeJson } from "./partial_json.js";
import * as form from "./request_form.js";
import { AnswerTurn, clear, following, resultForm, showMessage, toEnd, welcome } from "./transcript.js";
import { Wire } from "./wire.js";

const ASKS = ["What is vllm-wsgi?", "Why does the sea look blue?", "Count from one to twenty."];
const ACCEPT = { sse: "text/event-stream" };

let messages = [];
let running = null; // { exchange, turn, wire, before (characters that had come when it was cut) }

/** What keeps a question from being sent; empty when nothing does. */
const trouble = (text) => setText(byId("composer-trouble"), text);

const button = (text, click, kind = "secondary") => el("button", { type: "button", class: kind, click }, text);

function send() {
  if (byId("send").disabled) return;
  const message = composer.take();
  if (!message) return byId("message").focus();
  let body;
  // Many chat templates refuse two questions in a row: one that got no answer is left out.
  const answered = messages.slice(0, messages.findLastIndex((each) => each.role !== "user") + 1);
  try {
    body = form.body([...answered, message]);
  } catch (error) {
    composer.giveBack(message);
    return trouble(error.message);
  }
  if (answered.length < messages.length) leaveOut();
  messages = [...answered, message];
  following(() => showMessage(message));
  ask(body);
}

function leaveOut() {
  const turns = [...document.querySelectorAll("#transcript .turn")];
  const last = turns.findLastIndex((each) => each.dataset.role === "user");
  for (const turn of turns.slice(last)) turn.classList.add("left-out");
  setText(turns[last].querySelector(".turn-head").lastElementChild, "You · left out of what follows, since it has no answer");
}

function askAgain() {
  try {
    const body = form.body(messages);
    running?.turn.node.remove();
    ask(body);
  } catch (error) {
    trouble(error.message);
  }
}

function ask(body) {
  // An answer that was cut is not taken up any more, and what earlier turns offer would act on the new one.
  if (running?.exchange.canResume) running.exchange.stop().catch(() => {});
  for (const left of document.querySelectorAll("#transcript .call form")) left.closest(".call").remove();
  for (const left of document.querySelectorAll("#transcript .notice button")) left.remove();
  store();
  trouble("");
  const turn = new AnswerTurn(shortName(body.model), form.wantsJson());
  const wire = new Wire();
  toEnd();
  const exchange = new Exchange(form.transport(), {
    opened: (head) => {
      wire.opened(head);
      show();
    },
    bytes: (data) => wire.bytes(data),
    event: (text) => wire.event(text),
    note: (text, isBad) => wire.note(text, isBad),
    record: (record) => {
      wire.record(record);
      take(turn, record);
    },
  });
  running = { exchange, turn, wire, before: null };
  announce("Asked.");
  follow(exchange.start(body, form.wantsResumable()));
}

/** One record of the answer. */
function take(turn, record) {
  if (record.error) {
    turn.hasFailed = true;
    turn.fail("The answer broke off.", sentence(record), [button("Ask again", askAgain)]);
    return;
  }
  if (record.message) turn.take(record.message);
  if (record.done) turn.finish(record);
}

const sentence = (record) => `${record.error}${record.request_id ? ` (request ${record.request_id})` : ""}`;

/** Wait for a reading of the answer and show how it ended. */
async function follow(reading) {
  const { exchange, turn, wire } = running;
  show();
  try {
    await reading;
    if (exchange.state === "ended" && running.before !== null) await prove();
  } catch (error) {
    fail(error);
  }
  wire.flush();
  turn.flush();
  if (exchange.state === "ended") ended(turn);
  show();
}

function ended(turn) {
  const { message } = turn;
  // Half an answer that failed is not part of the conversation.
  if (turn.kept || turn.hasFailed) return;
  turn.kept = true;
  if (message.content || message.tool_calls || message.thinking) messages.push({ ...message, model: turn.model });
  store();
  if (message.tool_calls) askForResults(turn);
  if (message.content) announce(`Answer: ${message.content.slice(0, 2000)}`);
}

function askForResults(turn) {
  resultForm(turn, turn.message.tool_calls, (results) => {
    messages.push(...results);
    following(() => results.forEach(showMessage));
    running = null;
    askAgain();
  });
}

function fail(error) {
  const { exchange, turn, wire } = running;
  wire.note(explain(error), true);
  if (exchange.canResume) {
    running.before ??= turn.message.content.length;
    turn.fail("The connection broke.", "The server goes on with the answer.", [button("Resume", resume), button("Ask again", askAgain)]);
  } else if (error instanceof Broken) {
    turn.fail("The connection broke", "before the end of the answer.", [button("Ask again", askAgain)]);
  } else {
    const id = error instanceof ServerError && error.requestId ? ` (request ${error.requestId})` : "";
    turn.fail("No answer.", explain(error) + id, [button("Ask again", askAgain)]);
    exchange.state = "broken";
  }
}

function cut() {
  const { exchange, turn, wire } = running;
  exchange.cut();
  turn.flush();
  running.before = turn.message.content.length + (turn.message.thinking ?? "").length;
  wire.note("Connection cut here, by you.", true);
  turn.pause("The connection is cut; the server goes on with the answer.", [button("Resume", resume, "primary")]);
  show();
}

function resume() {
  const { exchange, turn, wire } = running;
  turn.goOn();
  wire.note("Taking the answer up after the last record that arrived.");
  byId("message").focus();
  follow(exchange.resume());
}

/** Compare what arrived in pieces with the whole answer, which the server still has. */
async function prove() {
  const { exchange, turn, before } = running;
  turn.flush();
  const joined = (name) => (all) => all.map((each) => each.message?.[name] ?? "").join("");
  try {
    const whole = await exchange.whole();
    const same = joined("content")(whole) === turn.message.content && joined("thinking")(whole) === (turn.message.thinking ?? "");
    const length = turn.message.content.length + (turn.message.thinking ?? "").length;
    turn.prove(same
      ? `Nothing was lost: ${count(before)} characters before the cut, ${count(length - before)} after it, equal to the server's whole answer.`
      : "What arrived is not the server's whole answer.", same);
  } catch (error) {
    turn.prove(`The answer is complete; it could not be compared: ${explain(error)}`, true);
  }
}

async function stop() {
  if (running?.exchange.state !== "running" && !running?.exchange.canResume) return;
  const { exchange, turn, wire } = running;
  wire.note("Stopped, by you.");
  const stopping = exchange.stop();
  turn.finish(null);
  turn.foot.textContent = "Stopped.";
  ended(turn);
  show();
  await stopping.catch((error) => wire.note(explain(error), true));
}

function show() {
  const live = running?.exchange.state === "running";
  // Until the models are known there is none to ask, and what is typed waits.
  byId("send").disabled = live || !catalog.isKnown;
  byId("stop").disabled = !live;
  byId("cut").hidden = !catalog.resumable;
  byId("cut").disabled = !(live && running.exchange.isResumable);
  byId("transcript").setAttribute("aria-busy", live ? "true" : "false");
}

function store() {
  // Images may be larger than what the browser keeps. Then the text is kept without them.
  if (!kept.write("conversation", messages)) {
    kept.write("conversation", messages.map(({ images, ...rest }) => (images ? { ...rest, content: `${rest.content}\n[an image]` } : rest)));
  }
}

function newChat() {
  stop();
  running = null;
  messages = [];
  store();
  clear();
  begin();
  byId("message").focus();
}

/** The page is closed, reloaded or left. Nothing could take its answer up again, unless the browser keeps the page. */
function leave(event) {
  if (!event.persisted) running?.exchange.abandon();
}

function begin() {
  welcome(ASKS, (text) => {
    byId("message").value = text;
    send();
  });
}

function restore() {
  const stored = kept.read("conversation");
  if (!Array.isArray(stored) || !stored.length) return begin();
  messages = stored.filter((each) => typeof each?.content === "string" && typeof each.role === "string");
  let answer = null;
  for (const message of messages) {
    if (message.role !== "assistant") {
      showMessage(message);
      continue;
    }
    answer = new AnswerTurn(message.model || "Model", looksLikeJson(message.content));
    answer.restore(message);
  }
  if (messages.at(-1)?.role === "assistant" && messages.at(-1).tool_calls) askForResults(answer);
  toEnd();
  if (messages.at(-1) && messages.at(-1).role !== "assistant") offerAnswer();
}

/** The page was left before the last message was answered. */
function offerAnswer() {
  const turn = new AnswerTurn("Model", false);
  turn.finish(null);
  turn.pause("This message has no answer yet.", [button("Ask again", () => {
    turn.node.remove();
    running = null;
    askAgain();
  })]);
}

export function start() {
  form.start();
  composer.start({ send, stop });
  byId("stop").addEventListener("click", stop);
  byId("cut").addEventListener("click", cut);
  byId("new-chat").addEventListener("click", newChat);
  byId("copy-as").addEventListener("click", async () => {
    const { copyAs } = await import("./copy_as.js");
    const written = byId("message").value.trim();
    try {
      // The text that is written, or else the last question, without its answer.
      const asked = messages.slice(0, messages.findLastIndex((each) => each.role !== "assistant") + 1);
      const all = written ? [...messages, { role: "user", content: written }] : asked;
      copyAs(form.body(all.length ? all : [{ role: "user", content: ASKS[0] }]), ACCEPT[form.transport()] ?? "");
      trouble("");
    } catch (error) {
      trouble(error.message);
    }
  });
  addEventListener("pagehide", leave);
  catalog.addEventListener("resumable", show);
  catalog.addEventListener("change", show);
  restore();
  show();
}

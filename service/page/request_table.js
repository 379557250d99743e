// The newest requests with their endings. Rows stand still while the pointer or the focus is on them.

import { byId, el, setText } from "./dom.js";
import { clock, count, seconds, shortName } from "./format.js";

const MOST = 100;
const ENDINGS = { done: "done", client_gone: "client gone", refused: "refused", drained: "drained", error: "error" };

const waiting = []; // Arrived while the table was held, the oldest first.
let isHeld = false;

const milliseconds = (value) => (value ? seconds(value / 1000) : "–");

function row(request) {
  const isProblem = request.ending !== "done";
  const ending = `${ENDINGS[request.ending] ?? request.ending}${request.error ? `: ${request.error}` : ""}`;
  const at = new Date(request.time);
  const cells = [
    el("td", { title: request.time }, Number.isNaN(at.getTime()) ? "–" : clock(at)),
    el("td", {}, el("span", { class: "ending", "data-ending": request.ending }, ending)),
    el("td", {}, shortName(request.model || "–")),
    el("td", {}, request.route),
    el("td", {}, request.key || "–"),
    el("td", { class: "n" }, count(request.prompt_tokens)),
    el("td", { class: "n" }, count(request.output_tokens)),
    el("td", { class: "n" }, milliseconds(request.first_token_ms)),
    el("td", { class: "n" }, milliseconds(request.queue_ms)),
    el("td", { class: "n" }, milliseconds(request.longest_pause_ms)),
    el("td", { class: "n" }, milliseconds(request.duration_ms)),
    el("td", { class: "id" }, request.request_id),
  ];
  return el("tr", { "data-ending": request.ending, "data-problem": isProblem ? "1" : "0" }, cells);
}

const onlyProblems = () => byId("only-problems").checked;

function show() {
  if (isHeld) {
    setText(byId("held"), waiting.length ? `Held while you look; ${waiting.length} newer.` : "");
    return;
  }
  setText(byId("held"), "");
  const body = byId("requests");
  for (const request of waiting.splice(0)) body.prepend(row(request));
  while (body.childElementCount > MOST) body.lastElementChild.remove();
  filter();
}

function filter() {
  const body = byId("requests");
  for (const each of body.rows) each.hidden = onlyProblems() && each.dataset.problem === "0";
  const isEmpty = ![...body.rows].some((each) => !each.hidden);
  byId("requests-empty").hidden = !isEmpty;
  setText(byId("requests-empty"), body.rows.length ? "None of the newest requests had a problem." : "No request has ended in the last five minutes.");
}

export function start(feed) {
  const box = byId("requests-scroll");
  const hold = (held) => () => {
    isHeld = held;
    show();
  };
  box.addEventListener("pointerenter", hold(true));
  box.addEventListener("pointerleave", hold(false));
  box.addEventListener("focusin", hold(true));
  box.addEventListener("focusout", hold(false));
  byId("only-problems").addEventListener("change", filter);
  const seen = new Set();
  feed.addEventListener("request", ({ detail }) => {
    // A connection that resumes may bring one again.
    if (seen.has(detail.request_id)) return;
    seen.add(detail.request_id);
    if (seen.size > 10 * MOST) seen.delete(seen.values().next().value);
    waiting.push(detail);
    if (waiting.length > MOST) waiting.shift();
    show();
  });
}

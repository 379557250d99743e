// The newest requests with their endings. Rows stand still while the pointer or the focus is on them.

import { byId, el, setText } from "./dom.js";
import { clock, count, seconds, shortName } from "./format.js";

const MOST = 100;
const ENDINGS = { done: "done", client_gone: "client gone", refused: "refused", drained: "drained", error: "error" };

const waiting = []; // Arrived while the table was held, the oldest first.
let isHeld = false;

const milliseconds = (value) => (value ? seconds(value / 1000) : "–");

function row(request) {
  const ending = `${ENDINGS[request.ending] ?? request.ending}${request.error ? `: ${request.error}` : ""}`;
  const at = new Date(request.time);
  const cells = [
    el("td", { title: request.time }, Number.isNaN(at.getTime()) ? "–" : clock(at)),
    el("td", {}, el("span", { class: "ending", "data-ending": request.ending }, ending)),
    el("td", {}, shortName(request.model || "–")),
    el("td", {}, request.route),
    el("td", {}, request.key || "–"),
    el("td", { class: "n" }, count(request.prompt_tokens || null)),
    el("td", { class: "n" }, count(request.output_tokens || null)),
    el("td", { class: "n" }, milliseconds(request.first_token_ms)),
    el("td", { class: "n" }, milliseconds(request.queue_ms)),
    el("td", { class: "n" }, milliseconds(request.longest_pause_ms)),
    el("td", { class: "n" }, milliseconds(request.duration_ms)),
    el("td", { class: "id" }, request.request_id),
  ];
  return el("tr", { "data-ending": request.ending, "data-has-model": request.model ? "1" : "0" }, cells);
}

/** Lists and status queries ask for no model; an error is worth seeing whatever it was about. */
const FILTERS = {
  "": () => true,
  model: ({ ending, hasModel }) => hasModel === "1" || ending === "error",
  problem: ({ ending }) => ending !== "done",
};

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
  const passes = FILTERS[byId("request-filter").value];
  for (const each of body.rows) each.hidden = !passes(each.dataset);
  const isEmpty = ![...body.rows].some((each) => !each.hidden);
  byId("requests-empty").hidden = !isEmpty;
  setText(byId("requests-empty"), body.rows.length ? "None of the newest requests is of this kind." : "No request has ended in the last five minutes.");
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
  byId("request-filter").addEventListener("change", filter);
  const seen = new Set();
  feed.addEventListener("reset", () => {
    seen.clear();
    waiting.length = 0;
    byId("requests").replaceChildren();
    filter();
  });
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

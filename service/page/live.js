// The live state: one card for each model, changed in place, so that nothing moves while numbers do.

import { adviceFor, hostAdvice } from "./advice.js";
import { Chart, Series } from "./charts.js";
import { byId, el, onceAFrame, setText } from "./dom.js";
import { feed } from "./feed.js";
import { bytes, count, rate, seconds, shortName } from "./format.js";
import * as requestTable from "./request_table.js";

export const STATES = {
  ready: "Ready", loading: "Loading", restarting: "Restarting", failed: "Failed", unloading: "Unloading", idle: "Not loaded", unknown: "Not known",
};
const STALE_SECONDS = 10;

const FIGURES = [
  ["Tokens/s", (model) => rate(model.tokens_per_second), true],
  ["Running", (model) => count(model.running), true],
  ["Waiting", (model) => count(model.waiting), true],
  ["First token", (model) => seconds(model.first_token_seconds)],
  ["Queue", (model) => seconds(model.queue_seconds)],
  ["Memory", (model) => bytes(model.memory_bytes)],
  ["Restarts", (model) => count(model.restarts)],
];

class ModelCard {
  constructor(name) {
    this.state = el("span", { class: "state" }, el("span", { class: "mark", "aria-hidden": "true" }), el("span"));
    this.reason = el("span", { class: "hint" });
    this.advice = el("div", { class: "notice advice", hidden: true });
    this.figures = FIGURES.map(([label, , isLead]) => {
      const value = el("dd", {}, "–");
      return { value, node: el("div", { class: isLead ? "lead" : null }, el("dt", {}, label), value) };
    });
    this.series = { rate: new Series(), first: new Series(), running: new Series(), waiting: new Series() };
    this.charts = [
      new Chart("Tokens per second", [{ name: "Tokens per second", series: this.series.rate }], rate, 10),
      new Chart("Requests", [{ name: "Running", series: this.series.running }, { name: "Waiting", series: this.series.waiting }], count, 5),
      new Chart("First token", [{ name: "Time to first token", series: this.series.first }], seconds, 0.1),
    ];
    this.replicas = el("tbody");
    this.table = el("div", { class: "replicas", hidden: true, tabindex: 0, role: "region", "aria-label": `Replicas of ${shortName(name)}` }, el("table", {},
      el("thead", {}, el("tr", {}, ["Replica", "State"].map((text) => el("th", { scope: "col" }, text)),
        el("th", { scope: "col", class: "place" }, "Node"), el("th", { scope: "col" }, "Reason"),
        FIGURES.map(([label]) => el("th", { scope: "col", class: "n" }, label)))), this.replicas));
    this.node = el("article", { class: "panel", "aria-label": shortName(name) },
      el("div", { class: "card-head" }, el("h2", {}, shortName(name)), this.state, this.reason),
      this.advice,
      el("dl", { class: "stats" }, this.figures.map((each) => each.node)),
      this.table,
      el("div", { class: "charts" }, this.charts.map((each) => each.node)));
  }

  remember(model, at) {
    this.series.rate.add(at, model.tokens_per_second);
    this.series.first.add(at, model.first_token_seconds);
    this.series.running.add(at, model.running);
    this.series.waiting.add(at, model.waiting);
  }

  show(model, now) {
    this.state.dataset.state = model.state;
    setText(this.state.lastElementChild, STATES[model.state] ?? model.state);
    const advice = adviceFor(model, now);
    setText(this.reason, advice ? "" : (model.reason ?? ""));
    showAdvice(this.advice, advice);
    FIGURES.forEach(([, read], index) => setText(this.figures[index].value, read(model)));
    for (const chart of this.charts) chart.draw(now);
    this.showReplicas(model.replicas ?? []);
  }

  /** The numbers stay as they were: the page does not jump, and their last values show what led here. */
  showUnknown() {
    this.state.dataset.state = "unknown";
    setText(this.state.lastElementChild, STATES.unknown);
  }

  /** On one machine there are no nodes, and one replica shows no more than its model. */
  showReplicas(replicas) {
    const hasNodes = replicas.some((each) => each.node);
    this.table.classList.toggle("one-place", !hasNodes);
    this.table.hidden = replicas.length < 2 && !hasNodes;
    if (this.table.hidden) return;
    while (this.replicas.rows.length > replicas.length) this.replicas.deleteRow(-1);
    replicas.forEach((replica, index) => {
      const row = this.replicas.rows[index] ?? this.replicas.appendChild(el("tr", {}, el("td"),
        el("td", {}, el("span", { class: "state" }, el("span", { class: "mark", "aria-hidden": "true" }), el("span"))),
        el("td", { class: "place" }), el("td"),
        FIGURES.map(() => el("td", { class: "n" }))));
      const [id, state, node, reason, ...figures] = row.cells;
      setText(id, String(replica.id ?? index));
      state.firstElementChild.dataset.state = replica.state;
      setText(state.firstElementChild.lastElementChild, STATES[replica.state] ?? replica.state);
      setText(node, replica.node ?? "");
      setText(reason, replica.reason ?? "");
      FIGURES.forEach(([, read], each) => setText(figures[each], read(replica)));
    });
  }
}

function showAdvice(node, advice) {
  node.hidden = !advice;
  if (!advice) return;
  node.classList.toggle("error", advice.kind === "bad");
  const [what, next] = node.children.length ? node.children : [el("p", {}, el("b")), el("p", {}, "Next:", el("span"))];
  if (!node.children.length) node.append(what, next);
  setText(what.firstChild, advice.what);
  setText(next.lastChild, ` ${advice.next}`);
}

const cards = new Map();
/** The names of the models that something is wrong with, each a button that brings its card into sight. */
const attention = el("p", { class: "attention", hidden: true });

function showAttention(models, now) {
  const names = models.filter((each) => adviceFor(each, now)).map((each) => each.name);
  const text = names.join("\n");
  if (attention.dataset.names === text) return;
  attention.dataset.names = text;
  attention.hidden = !names.length;
  attention.replaceChildren("Needs attention:", ...names.map((name) => el("button", {
    type: "button", class: "link", click: () => cards.get(name)?.node.scrollIntoView({ block: "nearest" }),
  }, shortName(name))));
}

const hostNotice = el("div", { class: "notice", hidden: true });

function cardOf(name) {
  if (!cards.has(name)) {
    cards.set(name, new ModelCard(name));
    const sorted = [...cards.keys()].sort();
    const after = cards.get(sorted[sorted.indexOf(name) + 1]);
    byId("live-models").insertBefore(cards.get(name).node, after?.node ?? null);
  }
  return cards.get(name);
}

function summary(snapshot) {
  // The notice below says more; that no model is known then means nothing.
  if (snapshot.host?.state === "gone") return `The models are not known now · version ${snapshot.version}`;
  const ready = snapshot.models.filter((each) => each.state === "ready").length;
  const sum = (field) => snapshot.models.reduce((all, each) => all + (each[field] ?? 0), 0);
  const parts = [
    `Models ready: ${ready} of ${snapshot.models.length}`,
    `${count(sum("running"))} running`, `${count(sum("waiting"))} waiting`, `${rate(sum("tokens_per_second"))} tokens/s`,
    `version ${snapshot.version}`,
  ];
  return snapshot.models.length ? parts.join(" · ") : `No model is loaded: the first request for one loads it, or you do in Models · version ${snapshot.version}`;
}

const hostIsGone = () => feed.snapshot?.host?.state === "gone";

/** Remove the cards of models that are there no longer. */
function dropCards(models) {
  for (const [name, card] of cards) {
    if (models.some((each) => each.name === name)) continue;
    card.node.remove();
    cards.delete(name);
  }
}

const draw = onceAFrame(() => {
  if (byId("live").hidden || !feed.snapshot) return;
  const { models, time } = feed.snapshot;
  for (const model of models) cardOf(model.name).show(model, time);
  if (hostIsGone()) for (const card of cards.values()) card.showUnknown();
  else dropCards(models);
  setText(byId("live-summary"), summary(feed.snapshot));
  if (!hostIsGone()) showAttention(models, time);
  showAdvice(hostNotice, hostAdvice(feed.snapshot));
});

/** Numbers that no longer come must not look as if they did. */
function showStale() {
  const silent = (performance.now() - feed.receivedAt) / 1000;
  const isStale = feed.state !== "open" || silent > STALE_SECONDS;
  byId("live-models").classList.toggle("stale", isStale || hostIsGone());
  byId("requests-panel").hidden = feed.state === "closed" && !feed.snapshot;
  if (!isStale || feed.state === "wait") return;
  const since = feed.receivedAt ? ` The numbers below are ${silent < 60 ? `${Math.round(silent)} s` : seconds(silent)} old.` : "";
  const reason = feed.state === "open" ? "The server sends no events." : feed.reason;
  setText(byId("live-summary"), `${reason}${/[.!?]$/.test(reason) ? "" : "."}${since}`);
}

export function start() {
  byId("live-models").before(hostNotice);
  byId("live-summary").after(attention);
  hostNotice.classList.add("host-notice");
  requestTable.start(feed);
  feed.addEventListener("snapshot", ({ detail }) => {
    for (const model of detail.models) cardOf(model.name).remember(model, detail.time);
    // A gap in the lines: nothing is known of this time.
    if (hostIsGone()) for (const card of cards.values()) card.remember({}, detail.time);
    draw();
    showStale();
  });
  feed.addEventListener("reset", () => {
    byId("live-models").replaceChildren();
    cards.clear();
    showAttention([], 0);
    setText(byId("live-summary"), "Waiting for the first report.");
  });
  feed.addEventListener("state", showStale);
  setInterval(showStale, 1000);
}

/** The view has come into sight. */
export const shown = () => {
  draw();
  showStale();
};

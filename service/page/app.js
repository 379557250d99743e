// The page: which view is shown, and the connection that feeds all of them.

import { catalog } from "./catalog.js";
import { byId, setText } from "./dom.js";
import { feed } from "./feed.js";

const TITLES = { playground: "Playground", live: "Live", models: "Models" };
const LINKS = { wait: "Connecting", open: "Connected", lost: "Reconnecting", closed: "No live state" };

const views = new Map();

/** Load a view's module, once, and start it. */
function load(name) {
  if (!views.has(name)) {
    views.set(name, import(`./${name}.js`).then((view) => {
      view.start();
      return view;
    }));
  }
  return views.get(name);
}

function chosen() {
  const asked = location.hash.slice(1);
  return asked in TITLES ? asked : "playground";
}

async function showView() {
  const view = chosen();
  for (const name of Object.keys(TITLES)) byId(name).hidden = name !== view;
  for (const link of document.querySelectorAll("nav [data-view]")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${TITLES[view]} · vllm-wsgi`;
  (await load(view)).shown?.();
}

function showLink() {
  byId("link-state").dataset.state = feed.state === "closed" ? "" : feed.state;
  byId("link-state").title = feed.reason;
  setText(byId("link-text"), LINKS[feed.state]);
}

/** On a small window the request and the bytes are folded, so that the conversation is what is seen first. */
function fold() {
  const wide = matchMedia("(min-width: 68rem) and (min-height: 32rem)");
  const set = () => {
    byId("request-panel").open = wide.matches;
    byId("wire-panel").open = wide.matches || byId("wire-panel").open;
  };
  wide.addEventListener("change", set);
  set();
}

/** First what is looked at, then the rest: the charts of the live state fill while another view is shown. */
async function start() {
  fold();
  showLink();
  catalog.follow();
  catalog.refresh();
  await showView();
  await Promise.all(Object.keys(TITLES).map(load));
  feed.start();
}

feed.addEventListener("state", showLink);
addEventListener("hashchange", () => {
  showView();
  scrollTo(0, 0);
  byId("main").focus({ preventScroll: true });
});
addEventListener("key-changed", () => {
  feed.restart();
  catalog.refresh();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  // The hash names the view, not a place in it.
  event.preventDefault();
  byId("main").focus();
});
start();

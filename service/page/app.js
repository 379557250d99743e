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

/** early.js has shown the view; this starts what is in it. */
async function showView() {
  const view = Object.keys(TITLES).find((name) => !byId(name).hidden);
  document.title = `${TITLES[view]} · vllm-wsgi`;
  (await load(view)).shown?.();
}

function showLink() {
  byId("link-state").dataset.state = feed.state === "closed" ? "" : feed.state;
  byId("link-state").title = feed.reason;
  setText(byId("link-text"), LINKS[feed.state]);
}

/** First what is looked at, then the rest: the charts of the live state fill while another view is shown. */
async function start() {
  showLink();
  catalog.follow();
  catalog.refresh();
  await showView();
  await Promise.all(Object.keys(TITLES).map(load));
  feed.start();
  feed.followVisibility();
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

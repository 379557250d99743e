// Building and changing the document. Strings become text nodes: markup in a model's answer or in a name stays text.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** Build an HTML element. A function is a listener; `null`, `undefined` and `false` leave an attribute or child out. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Build an SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Set a node's text, unless it has that text already: an unchanged number costs no layout and no announcement. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Call `draw` at most once a frame, however often it is asked for. */
export function onceAFrame(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}

/** Whether a scrolling box shows its end, within a line or two. */
export const atEnd = (box) => box.scrollHeight - box.scrollTop - box.clientHeight < 40;

/** Have a screen reader read `text`, once. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** What is kept in the browser, below a name of this server's own; a browser that blocks storage keeps nothing. */
export const kept = {
  name: (name) => `vllm-wsgi:${new URL("..", import.meta.url).pathname}:${name}`,
  read(name) {
    try {
      return JSON.parse(localStorage.getItem(this.name(name)));
    } catch {
      return null;
    }
  },
  /** Return whether it was kept: what is larger than the browser's quota is not. */
  write(name, value) {
    try {
      localStorage.setItem(this.name(name), JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  },
};

for (const dialog of document.querySelectorAll("dialog")) {
  for (const button of dialog.querySelectorAll("[data-close]")) button.addEventListener("click", () => dialog.close());
}

// Small charts of the last five minutes, drawn as SVG. Two lines differ by dashes and by their names, not by colour alone.

import { el, setText, svg } from "./dom.js";

export const SPAN_SECONDS = 300;
const WIDTH = 300;
const HEIGHT = 60;

/** Values over time: `{ at (seconds), value }`, the oldest first; those that are out of sight are dropped. */
export class Series {
  points = [];

  add(at, value) {
    if (typeof value !== "number" || !Number.isFinite(value)) value = null;
    // A connection that resumes may bring a snapshot again.
    if (this.points.length && at <= this.points.at(-1).at) return;
    this.points.push({ at, value });
    while (this.points[0].at < at - SPAN_SECONDS - 5) this.points.shift();
  }

  get highest() {
    return this.points.reduce((most, { value }) => Math.max(most, value ?? 0), 0);
  }

  get last() {
    return this.points.at(-1)?.value ?? null;
  }
}

/** The next of 1, 2, 5, 10, … at or above a value, so that a scale changes seldom. */
export function scaleFor(value, least) {
  const above = Math.max(value, least);
  const power = 10 ** Math.floor(Math.log10(above));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= above * 0.999);
}

export class Chart {
  /** `lines` are `{ name, series }`, one or two; `format` writes a value, `least` is the smallest scale. */
  constructor(title, lines, format, least) {
    Object.assign(this, { title, lines, format, least });
    this.scale = el("span");
    this.paths = lines.map((_, index) => svg("path", { class: index ? "line second" : "line" }));
    this.area = svg("path", { class: "area" });
    this.image = svg("svg", { viewBox: `0 -3 ${WIDTH} ${HEIGHT + 6}`, preserveAspectRatio: "none", role: "img", "aria-label": title },
      [0, HEIGHT / 2, HEIGHT].map((y) => svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y })), this.area, this.paths);
    this.node = el("figure", { class: "chart" },
      el("figcaption", {}, lines.length > 1 ? el("span", {}, lines.map(legend)) : title, this.scale),
      this.image,
      el("div", { class: "axis", "aria-hidden": "true" }, el("span", {}, "5 min ago"), el("span", {}, "now")));
  }

  /** Draw up to `now` (seconds). */
  draw(now) {
    const highest = Math.max(...this.lines.map(({ series }) => series.highest));
    const scale = scaleFor(highest, this.least);
    this.lines.forEach(({ series }, index) => this.paths[index].setAttribute("d", path(series.points, now, scale)));
    this.area.setAttribute("d", this.lines.length > 1 ? "" : under(this.lines[0].series.points, now, scale));
    setText(this.scale, `0–${this.format(scale)}`);
    const spoken = this.lines.map(({ name, series }) => `${name} now ${this.format(series.last)}, at most ${this.format(series.highest)}`);
    this.image.setAttribute("aria-label", `${this.title}, the last five minutes: ${spoken.join("; ")}`);
  }
}

function legend({ name }, index) {
  return el("span", { class: "legend" }, el("span", { class: index ? "key-line second" : "key-line" }), name, index ? "" : "\u2003");
}

const place = ({ at, value }, now, scale) => [
  (WIDTH * (1 - (now - at) / SPAN_SECONDS)).toFixed(1), (HEIGHT * (1 - value / scale)).toFixed(1)];

const visible = (points, now) => points.filter(({ at }) => at >= now - SPAN_SECONDS);

/** A line with gaps where nothing was measured. */
function path(points, now, scale) {
  let isDown = false;
  return visible(points, now).map((point) => {
    if (point.value === null) {
      isDown = false;
      return "";
    }
    const command = isDown ? "L" : "M";
    isDown = true;
    return command + place(point, now, scale).join(" ");
  }).join("");
}

function under(points, now, scale) {
  const shown = visible(points, now).map((point) => place({ ...point, value: point.value ?? 0 }, now, scale));
  if (shown.length < 2) return "";
  return `M${shown[0][0]} ${HEIGHT}${shown.map(([x, y]) => `L${x} ${y}`).join("")}L${shown.at(-1)[0]} ${HEIGHT}Z`;
}

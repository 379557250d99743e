// Numbers as people read them. Units: seconds, bytes, tokens per second.

const whole = new Intl.NumberFormat("en");
const NOTHING = "–";

const known = (value) => typeof value === "number" && Number.isFinite(value);

export const count = (value) => (known(value) ? whole.format(Math.round(value)) : NOTHING);

/** 0.0004 → "0.4 ms", 0.082 → "82 ms", 1.24 → "1.24 s", 75 → "1 min 15 s". */
export function seconds(value) {
  if (!known(value)) return NOTHING;
  if (value < 0.00005) return "0 ms";
  if (value < 0.01) return `${(value * 1000).toFixed(1)} ms`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(value < 10 ? 2 : 1)} s`;
  const all = Math.round(value);
  if (all < 3600) return `${Math.floor(all / 60)} min ${all % 60} s`;
  return `${Math.floor(all / 3600)} h ${Math.floor((all % 3600) / 60)} min`;
}

export function bytes(value) {
  if (!known(value)) return NOTHING;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (value >= 999.5 && step < units.length - 1) {
    value /= 1000;
    step += 1;
  }
  return `${step && value < 99.95 ? value.toFixed(1) : Math.round(value)} ${units[step]}`;
}

export function rate(value) {
  if (!known(value)) return NOTHING;
  return value < 10 && value > 0 ? value.toFixed(1) : whole.format(Math.round(value));
}

export const clock = (date) => date.toLocaleTimeString("en-GB");

/** A model's name without the tag that everything has. */
export const shortName = (name) => name.replace(/:latest$/, "");

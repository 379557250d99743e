// JSON that is still being written, indented and coloured as far as it has come.

const TOKEN = /"(?:[^"\\]|\\.)*"?|[{}[\],:]|\s+|[^\s"{}[\],:]+/gs;
const INDENT = "  ";

/** Split the beginning of a JSON text into `[kind, text]` pieces, laid out; kinds are k(ey), s(tring), l(iteral), "". */
export function layout(text) {
  const pieces = [];
  let depth = 0;
  const open = []; // Of each bracket around: "{" or "[".
  let isKey = false;
  let empty = false; // Nothing has come since the last opening bracket.
  const put = (kind, part) => pieces.push([kind, part]);
  const line = () => put("", `\n${INDENT.repeat(depth)}`);
  for (const [token] of text.matchAll(TOKEN)) {
    if (!token.trim()) continue;
    if (token === "}" || token === "]") {
      depth = Math.max(0, depth - 1);
      if (!empty) line();
      open.pop();
      empty = false;
      isKey = false;
      put("", token);
      continue;
    }
    if (empty) line();
    empty = false;
    if (token === "{" || token === "[") {
      put("", token);
      open.push(token);
      depth += 1;
      empty = true;
      isKey = token === "{";
    } else if (token === ",") {
      put("", ",");
      line();
      isKey = open.at(-1) === "{";
    } else if (token === ":") {
      put("", ": ");
      isKey = false;
    } else if (token.startsWith('"')) put(isKey ? "k" : "s", token);
    else put("l", token);
  }
  return pieces;
}

/** Whether a text could be the beginning of a JSON object or list. */
export const looksLikeJson = (text) => /^\s*[{[]/.test(text);

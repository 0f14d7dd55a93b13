/** Code with a little colour: enough to tell what is said from how. */

const WORDS = "import|from|with|as|for|in|of|if|const|new|await|return|curl|echo|websocat|export|True|False|None|true|false|null";
const NUMBER = String.raw`\b\d[\w.]*`;
const QUOTED = String.raw`"(?:\\.|[^"\\\n])*"`;
const CODE = new RegExp(String.raw`(#.*|\/\/.*)|(${QUOTED})|\b(${WORDS})\b|(${NUMBER})`, "g");
// What is within a shell's quotes it takes as it stands; between them there may be a quote behind a backslash.
const SHELL = new RegExp(String.raw`(^#.*)|('[^']*'|\\'|${QUOTED})|\b(${WORDS})\b|()`, "gm");
const KINDS = ["", "comment", "string", "word", "number"];
const MOST = 20_000; // characters; more are no longer read

/** Colour a program. */
export function Coloured({ code, isShell = false }: { code: string; isShell?: boolean | undefined }) {
  if (code.length > MOST) return code;
  const parts = [];
  let end = 0;
  for (const found of code.matchAll(isShell ? SHELL : CODE)) {
    if (!found[0]) continue;
    const kind = KINDS[found.findIndex((part, n) => n > 0 && part)];
    parts.push(code.slice(end, found.index), <span key={found.index} className={`of-${kind}`}>{found[0]}</span>);
    end = found.index + found[0].length;
  }
  return [...parts, code.slice(end)];
}

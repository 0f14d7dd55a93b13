/** Write quantities as people read them. */

/** Write how large something is. */
export function readable(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Round up a time as far as it may be wrong. */
export function inSteps(timeS: number): number {
  const step = timeS < 10 ? 1 : timeS < 90 ? 5 : 60;
  return step * Math.ceil(timeS / step);
}

/** Write a time as one says it that is not known exactly. */
export function rounded(timeS: number): string {
  const round = inSteps(timeS);
  return round < 90 ? `${round} s` : `${Math.ceil(round / 60)} min`;
}

/** Write a place in a sound or a film, or how long it is. */
export function clock(timeS: number): string {
  const whole = Math.floor(timeS);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** Write how long something took. */
export function seconds(ms: number): string {
  const whole = Math.round(ms / 1000);
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

const ENDINGS = { one: "st", two: "nd", few: "rd", other: "th", zero: "th", many: "th" };
const RULES = new Intl.PluralRules("en", { type: "ordinal" });

/** Write which one it is of several: "3rd". */
export function ordinal(n: number): string {
  return `${n}${ENDINGS[RULES.select(n)]}`;
}

/** Know the sizes and proportions that pictures have. */

import type { RJSFSchema } from "@rjsf/utils";

const LONGEST = 1024; // where the field does not say how large its own are
const STEP = 8; // what most models need
const USUAL = [[1, 1], [4, 3], [3, 4], [16, 9], [9, 16]] as const;
const SMALLEST = 64; // numbers below it are proportions, not pixels
/** fal's, https://docs.fal.ai: in pixels. */
const NAMED: Record<string, [number, number]> = {
  square_hd: [1024, 1024],
  square: [512, 512],
  portrait_4_3: [768, 1024],
  portrait_16_9: [576, 1024],
  landscape_4_3: [1024, 768],
  landscape_16_9: [1024, 576],
};

/** How a choice of a size looks on its button. */
export interface Look {
  label: string;
  /** Pixels, or what else there is to say. */
  title: string;
  /** Width by height; undefined where nobody knows. */
  proportion: number | undefined;
}

interface Size extends Look {
  width: number | undefined;
  height: number | undefined;
}

/** Return the names of the two fields of an object that are a picture's size. */
export function pairOf({ properties = {} }: RJSFSchema): ["width", "height"] | undefined {
  const { width, height, x, left } = properties as Record<string, RJSFSchema>;
  const isBox = x !== undefined || left !== undefined; // a place in a picture
  return width?.type === "integer" && height?.type === "integer" && !isBox ? ["width", "height"] : undefined;
}

/** Offer sizes that both fields take: their own one, and the usual proportions. */
export function sizesFor(width: RJSFSchema, height: RJSFSchema, canBeEmpty: boolean): Size[] {
  const own = [width.default, height.default] as [number?, number?];
  const hasOwn = own.every((side) => typeof side === "number");
  const longest = hasOwn ? Math.max(...(own as number[])) : LONGEST;
  const usual = USUAL.flatMap(([a, b]) => fitted(a, b, longest, width, height) ?? []);
  const known = usual.some((size) => size.width === own[0] && size.height === own[1]);
  const auto: Size = { label: "Auto", title: "The app chooses", proportion: undefined, width: undefined, height: undefined };
  return [...(canBeEmpty && !hasOwn ? [auto] : []), ...(hasOwn && !known ? [sizeOf(own[0]!, own[1]!)] : []), ...usual];
}

/** Return the largest size of a proportion whose longer side is at most `longest`, or else the smallest that is allowed. */
function fitted(a: number, b: number, longest: number, width: RJSFSchema, height: RJSFSchema): Size | undefined {
  const [high, low] = [largestOf(width) / a, largestOf(height) / b];
  const most = Math.min(high, low);
  const least = Math.max(smallestOf(width) / a, smallestOf(height) / b);
  const unit = lcm(unitOf(a, width), unitOf(b, height));
  const wanted = Math.max(Math.min(longest / Math.max(a, b), most), least);
  const times = [Math.floor(wanted / unit) * unit, Math.ceil(least / unit) * unit].find((n) => n > 0 && n >= least && n <= most);
  return times === undefined ? undefined : { ...sizeOf(a * times, b * times), label: `${a}:${b}` };
}

function sizeOf(width: number, height: number): Size {
  return { label: `${width} × ${height}`, title: inPixels(width, height), proportion: width / height, width, height };
}

function smallestOf({ minimum, exclusiveMinimum = 0 }: RJSFSchema): number {
  return minimum ?? Number(exclusiveMinimum) + 1;
}

function largestOf({ maximum, exclusiveMaximum = Infinity }: RJSFSchema): number {
  return maximum ?? Number(exclusiveMaximum) - 1;
}

/** Return by which numbers a part of a proportion can be multiplied to be a side. */
function unitOf(part: number, { multipleOf = STEP }: RJSFSchema): number {
  const step = Number.isInteger(multipleOf) ? multipleOf : 1;
  return step / gcd(step, part);
}

function gcd(a: number, b: number): number {
  return b ? gcd(b, a % b) : a;
}

function lcm(a: number, b: number): number {
  return (a / gcd(a, b)) * b;
}

/** Tell how the words of a list look as sizes or proportions; undefined where they are something else. */
export function looksOf(options: readonly unknown[]): Look[] | undefined {
  if (!options.every((option) => typeof option === "string")) return undefined;
  const looks = options.map(lookOf);
  const words = looks.filter(({ proportion }) => proportion === undefined);
  return looks.length - words.length >= 2 && words.length <= 2 ? looks : undefined; // "auto", and perhaps "custom"
}

function lookOf(option: string): Look {
  const [, way, a = 1, b = 1, hd = ""] = /^(square|landscape|portrait)(?:_(\d+)_(\d+)|(_hd))?$/.exec(option) ?? [];
  if (way) {
    const [short, long] = [Number(a), Number(b)].sort((one, other) => one - other) as [number, number];
    const [width, height] = way === "portrait" ? [short, long] : [long, short];
    return { label: `${width}:${height}${hd && " HD"}`, title: NAMED[option] ? inPixels(...NAMED[option]) : "", proportion: width / height };
  }
  const [, width, height] = /^(\d+(?:\.\d+)?) ?[:x×*/] ?(\d+(?:\.\d+)?)$/i.exec(option)?.map(Number) ?? [];
  if (!width || !height) return { label: worded(option), title: "", proportion: undefined };
  if (width < SMALLEST || height < SMALLEST) return { label: option, title: "", proportion: width / height };
  return { label: `${width} × ${height}`, title: inPixels(width, height), proportion: width / height };
}

function inPixels(width: number, height: number): string {
  return `${width} × ${height} pixels`;
}

function worded(option: string): string {
  const words = option.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

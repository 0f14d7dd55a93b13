/** The top of the page: what the app is, and which of its endpoints one is at. */

import { type ReactNode, useEffect, useRef } from "react";

import icon from "./icon.svg";
import { Folded } from "./parts/folded";
import { Tabs } from "./parts/tabs";
import { type About, type Endpoint, humanise } from "./runs/schema";
import { Prose } from "./show/text";

/** The id of what the endpoints' tabs lead to. */
export const INPUT = "input";
const MOST_TABS = 6;
const MOST_LARGE = 48; // letters of a title: three lines on a phone
const MOST_UNFOLDED = 200; // characters of one paragraph: three lines beside each other, five on a phone

interface HeroProps {
  title: string;
  /** In Markdown. */
  description: string;
  /** What stands at the right of the title. */
  tools: ReactNode;
  children?: ReactNode;
}

/** The title of what is shown, in the largest letters of the page, and what it says of itself. */
export function Hero({ title, description, tools, children }: HeroProps) {
  const text = description.trim();
  const header = useRef<HTMLElement>(null);
  useEffect(() => {
    // So that the form, below it, ends where the screen does, and its button stands on the first screen.
    const element = header.current!;
    const sized = new ResizeObserver(() => document.documentElement.style.setProperty("--hero", `${element.offsetHeight}px`));
    sized.observe(element);
    return () => sized.disconnect();
  }, []);
  return (
    <header ref={header}>
      <div className="line top">
        <img src={icon} alt="" />
        <h1 className={title.length > MOST_LARGE ? "long" : undefined}>{title}</h1>
        <nav className="line" aria-label="Page">{tools}</nav>
      </div>
      {text && (
        <section aria-label="About" className="about">
          <Folded isLong={text.length > MOST_UNFOLDED || /\n\s*\n/.test(text)}><Prose text={text} /></Folded>
        </section>
      )}
      {children}
    </header>
  );
}

interface EndpointsProps {
  endpoints: Endpoint[];
  abouts: Record<string, About>;
  chosen: string;
  onChoose: (path: string) => void;
}

/** Which endpoints there are: a few as tabs, many, or those of several apps, in a menu. */
export function Endpoints({ endpoints, abouts, chosen, onChoose }: EndpointsProps) {
  const apps = [...new Set(endpoints.map(({ app }) => app))];
  const paths = endpoints.map(({ path }) => path);
  if (apps.length < 2 && paths.length < 2) return null;
  if (apps.length < 2 && paths.length <= MOST_TABS) {
    const said = Object.fromEntries(endpoints.map((one) => [one.path, { words: <Label endpoint={one} />, more: one.summary }]));
    return <Tabs name="Endpoint" tabs={paths} said={said} chosen={chosen} onChoose={onChoose} panel={INPUT} />;
  }
  const optionsOf = (app: string) => endpoints.filter((one) => one.app === app).map(({ path, name }) => (
    <option key={path} value={path}>{isBare(path) ? `${path} ${name}` : path}</option>
  ));
  return (
    <select aria-label="Endpoint" className="endpoints" value={chosen} onChange={({ target }) => onChoose(target.value)}>
      {apps.length < 2
        ? optionsOf(apps[0]!)
        : apps.map((app) => <optgroup key={app} label={abouts[app]?.title ?? app}>{optionsOf(app)}</optgroup>)}
    </select>
  );
}

/** A path, and, where it has no word in it, the name that its method has. */
function Label({ endpoint: { path, name } }: { endpoint: Endpoint }) {
  return <>{path}{isBare(path) && <span className="endpoint-name"> {humanise(name).toLowerCase()}</span>}</>;
}

function isBare(path: string): boolean {
  return !/\w/.test(path);
}

/** The bottom of the page. */
export function Footer({ server }: { server: string }) {
  return <footer><a href={`${server}/playground/LICENSES.txt`}>Open-source licences</a></footer>;
}

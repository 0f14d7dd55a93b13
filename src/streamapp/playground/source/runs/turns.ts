/** Let only so many jobs be read at once: a browser opens six connections to a server, and a cancel needs one. */

const MOST = 4;

let free = MOST;
const waiting: (() => void)[] = [];

/** Do something in its turn. */
export async function inTurn(act: () => Promise<void>): Promise<void> {
  if (free > 0) free--;
  else await new Promise<void>((resolve) => waiting.push(resolve));
  try {
    await act();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else free++;
  }
}

/** Read recorded answers: `node reads.mjs PACKAGE URL STREAMS VALUES`, names with commas; each is at the path of its name. */

import { pathToFileURL } from "node:url";

const [file, url, streams, values] = process.argv.slice(2);
const { Client, StreamappError } = await import(pathToFileURL(file));
const client = new Client(url, { patienceMs: 0 });
const read = {};

async function note(name, into) {
  const found = [];
  try {
    await into(found);
  } catch (error) {
    if (!(error instanceof StreamappError)) throw error;
    found.push(error.code);
  }
  read[name] = found;
}

for (const name of streams.split(",")) {
  await note(name, async (found) => {
    for await (const event of await client.stream(`/${name}`)) found.push([event.name, event.id, event.data]);
  });
}
for (const name of values.split(",")) {
  await note(name, async (found) => found.push(await client.run(`/${name}`)));
}
await note("session", async (found) => {
  const session = client.connect("/session");
  await session.send({ x: 1 });
  for await (const event of session) {
    found.push([event.name, event.id, event.data]);
    if (event.name === "output") await session.send({ x: 13 });
    else session.finish();
  }
});
process.stdout.write(JSON.stringify(read));

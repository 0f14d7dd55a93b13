/** Put files into one, as they are: what comes out of a model is packed already. */

export interface Member {
  name: string;
  bytes: Uint8Array<ArrayBuffer>;
}

/** Return a ZIP archive, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, of at most 4 GB. */
export function zipOf(members: Member[]): Blob {
  const bodies: BlobPart[] = [];
  const index: BlobPart[] = [];
  let at = 0;
  for (const { name, bytes } of members) {
    const path = new TextEncoder().encode(name);
    const about = fields([2, 20], [2, UTF8], [2, 0], [2, 0], [2, NO_DATE], [4, crcOf(bytes)], [4, bytes.length], [4, bytes.length], [2, path.length], [2, 0]);
    bodies.push(fields([4, 0x04034b50]), about, path, bytes);
    index.push(fields([4, 0x02014b50], [2, 20]), about, fields([2, 0], [2, 0], [2, 0], [4, 0], [4, at]), path);
    at += 30 + path.length + bytes.length;
  }
  const size = new Blob(index).size;
  const end = fields([4, 0x06054b50], [2, 0], [2, 0], [2, members.length], [2, members.length], [4, size], [4, at], [2, 0]);
  return new Blob([...bodies, ...index, end], { type: "application/zip" });
}

const UTF8 = 1 << 11; // how the names are written
const NO_DATE = (1 << 5) | 1; // the first of January 1980

/** Write numbers of so many bytes each, the lowest first. */
function fields(...numbers: [bytes: number, value: number][]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(numbers.flatMap(([bytes, value]) => Array.from({ length: bytes }, (_, n) => (value >>> (8 * n)) & 0xff)));
}

const TABLE = Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

function crcOf(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 0xff]!;
  return (crc ^ -1) >>> 0;
}

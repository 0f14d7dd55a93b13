/** Write sound as WAV, 16 bits a sample: http://soundfile.sapp.org/doc/WaveFormat/. */

const HEAD = 44;
const BYTES = 2;

/** A piece of a sound, and the frame at which it begins. */
export interface Placed {
  at: number;
  buffer: AudioBuffer;
}

/** Return pieces as one file; between them it is silent. All have the rate. */
export function wavOf(rate: number, pieces: Placed[]): Blob {
  const channels = Math.max(1, ...pieces.map(({ buffer }) => buffer.numberOfChannels));
  const frames = Math.max(0, ...pieces.map(({ at, buffer }) => at + buffer.length));
  const view = new DataView(new ArrayBuffer(HEAD + frames * channels * BYTES));
  writeHead(view, rate, channels);
  for (const { at, buffer } of pieces) {
    for (let channel = 0; channel < channels; channel++) {
      const samples = buffer.getChannelData(Math.min(channel, buffer.numberOfChannels - 1)); // what has one is heard on both sides
      for (let n = 0; n < samples.length; n++) {
        const height = Math.max(-1, Math.min(1, samples[n]!));
        const sample = Math.round(height * (height < 0 ? 0x8000 : 0x7fff)); // as browsers read them
        view.setInt16(HEAD + ((at + n) * channels + channel) * BYTES, sample, true);
      }
    }
  }
  return new Blob([view.buffer as ArrayBuffer], { type: "audio/wav" });
}

function writeHead(view: DataView, rate: number, channels: number): void {
  const write = (at: number, text: string) => [...text].forEach((letter, n) => view.setUint8(at + n, letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, view.byteLength - 8, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, channels, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * channels * BYTES, true);
  view.setUint16(32, channels * BYTES, true);
  view.setUint16(34, 8 * BYTES, true);
  write(36, "data");
  view.setUint32(40, view.byteLength - HEAD, true);
}

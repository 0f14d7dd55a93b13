/** Show a sound that comes in chunks: its waveform as far as it has come, and what plays it. */

import { useEffect, useId, useReducer, useRef } from "react";

import { useNow } from "./parts";
import type { Run } from "./run";
import { Player, type Sound } from "./sound";

const BARS = 160;
const HEIGHT = 40;
const LEAST_S = 1; // that the waveform is wide

/** One player; it falls silent when it is shown no more. */
export function SoundView({ sound, name, run }: { sound: Sound; name: string; run: Run }) {
  const [, draw] = useReducer((n: number) => n + 1, 0);
  const made = useRef<Player>(undefined);
  const player = (made.current ??= new Player(sound, draw));
  useEffect(() => () => player.close(), [player]);
  useEffect(() => {
    if (run.isOwn && run.status !== "cancelled" && sound.endS > 0) player.begin();
  }, [player, run, sound, sound.endS > 0]);
  useEffect(() => {
    if (run.status === "cancelled") player.pause();
  }, [player, run.status]);
  const isOver = sound.isWhole && player.isDry;
  useEffect(() => {
    if (isOver) player.pause();
  }, [player, isOver]);
  useNow(player.isPlaying, 100);

  const { positionS, isPlaying } = player;
  const wholeS = Math.max(sound.startS + LEAST_S, sound.endS, expectedS(run, sound));
  const words = `${clock(positionS)} / ${clock(sound.endS)}${sound.isWhole ? "" : " so far"}`;
  return (
    <section className="sound" aria-label={`Sound ${name}`}>
      {run.sounds.size > 1 && <p className="note">{name}</p>}
      <Wave sound={sound} positionS={positionS} wholeS={wholeS} />
      <input type="range" aria-label="Position" min={sound.startS} max={wholeS} step="any" value={positionS} aria-valuetext={words}
        onChange={({ target }) => player.seek(target.valueAsNumber)} />
      <div className="line">
        <button type="button" onClick={() => (isPlaying ? player.pause() : player.play())}>{isPlaying ? "Pause" : "Play"}</button>
        <span className="time">{words}</span>
        <span className="note" aria-live="polite">{player.isDry && !sound.isWhole ? "waiting for more" : ""}</span>
        <Volume player={player} />
      </div>
      {sound.failure && <p className="note">{sound.failure}</p>}
    </section>
  );
}

/** How long the sound may become, where the app tells how far it is: the waveform need not shrink as it grows. */
function expectedS({ isOver, progress }: Run, { endS }: Sound): number {
  const { step, total } = progress ?? {};
  return !isOver && step && total ? (endS * total) / step : 0;
}

function Wave({ sound, positionS, wholeS }: { sound: Sound; positionS: number; wholeS: number }) {
  const played = ((positionS - sound.startS) / (wholeS - sound.startS)) * BARS;
  return (
    <svg viewBox={`0 0 ${BARS} ${HEIGHT}`} preserveAspectRatio="none" className="wave" aria-hidden="true">
      {sound.loudness(BARS, wholeS).map((peak, n) => {
        const height = Math.max(1, peak * HEIGHT);
        return peak > 0 && <rect key={n} className={n < played ? "played" : ""} x={n + 0.15} y={(HEIGHT - height) / 2} width={0.7} height={height} />;
      })}
    </svg>
  );
}

function Volume({ player }: { player: Player }) {
  const id = useId();
  return (
    <span className="line volume">
      <button type="button" aria-pressed={player.isMuted} onClick={() => player.adjust({ isMuted: !player.isMuted })}>Mute</button>
      <label className="unseen" htmlFor={id}>Volume</label>
      <input id={id} type="range" min={0} max={1} step={0.05} value={player.level} aria-valuetext={`${Math.round(100 * player.level)} %`}
        onChange={({ target }) => player.adjust({ level: target.valueAsNumber, isMuted: false })} />
    </span>
  );
}

function clock(timeS: number): string {
  const seconds = Math.floor(timeS);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

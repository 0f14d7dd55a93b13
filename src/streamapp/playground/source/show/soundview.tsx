/** Play sounds: what comes in chunks and what is a file have one look. */

import { type ReactNode, type RefObject, useEffect, useMemo, useReducer, useRef, useState, useSyncExternalStore } from "react";

import { IconButton } from "../parts/icon";
import { useNow } from "../parts/now";
import type { Media } from "../runs/content";
import { gainNow, hear, onVolume, setVolume, volumeNow } from "../runs/heard";
import { folded, type Outline, outlineOf } from "../runs/outline";
import { Player } from "../runs/player";
import { clock } from "../runs/quantities";
import type { Run } from "../runs/run";
import type { Sound } from "../runs/sound";
import { DownloadSign, fileName, InputSign, save } from "./save";

const BAR_PX = 5;
const LEAST_S = 1; // that the waveform is wide
const QUIET = 0.04; // what is as good as silent is a dot
const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 2];

interface SoundViewProps {
  sound: Sound;
  name: string;
  run: Run;
}

/** A sound that comes in chunks; where the page could not keep them, its file. */
export function SoundView({ sound, name, run }: SoundViewProps) {
  if (sound.isGone && sound.file) return <AudioFile media={sound.file} name={name} failure={sound.failure} />;
  return <ChunksView {...{ sound, name, run }} />;
}

/** One player; it falls silent when it is shown no more. */
function ChunksView({ sound, name, run }: SoundViewProps) {
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
  useNow(player.isPlaying, 50);

  const { positionS, isPlaying } = player;
  const { startS, endS, isWhole, failure, file } = sound;
  const wholeS = Math.max(startS + LEAST_S, endS, expectedS(run, sound));
  const loudness = useMemo(() => (count: number) => sound.loudness(count, wholeS), [sound, startS, endS, wholeS]);
  return (
    <Face label={`Sound ${name}`} title={run.sounds.size > 1 ? name : undefined} isPlaying={isPlaying} time={{ startS, positionS, endS, wholeS }}
      words={`${clock(positionS)} / ${clock(endS)}${isWhole ? "" : " so far"}`} loudness={loudness}
      note={failure ?? (player.isDry && !isWhole ? "waiting for more" : "")}
      onToggle={() => (isPlaying ? player.pause() : player.play())} onSeek={(timeS) => player.seek(timeS)}>
      <VolumeControl />
      {file && <InputSign media={file} />}
      {file && <DownloadSign media={file} name={fileName(file, name || "sound")} />}
      {!file && isWhole && endS > 0 && (
        <IconButton sign="download" name="Download" onClick={() => save(sound.wav(), `${name || "sound"}.wav`)} />
      )}
    </Face>
  );
}

/** How long the sound may become, where the app tells how far it is: the waveform need not shrink as it grows. */
function expectedS({ isOver, progress }: Run, { endS, isWhole }: Sound): number {
  const { step, total } = progress ?? {};
  return !isOver && !isWhole && step && total ? (endS * total) / step : 0;
}

interface AudioFileProps {
  media: Media;
  /** What it is called. */
  name: string;
  /** In a form there is less room, and less to do. */
  isCompact?: boolean;
  /** Why its chunks could not be played: where the file cannot be either, that says more. */
  failure?: string | undefined;
}

/** A whole file: it is played as it comes from the server, and decoded for its waveform alone, unless it is long. */
export function AudioFile({ media, name, isCompact = false, failure = "The browser cannot play this sound." }: AudioFileProps) {
  const element = useRef<HTMLAudioElement>(null);
  const [, draw] = useReducer((n: number) => n + 1, 0);
  const [toldS, tell] = useState<number>();
  const [isBroken, setBroken] = useState(false);
  const [speed, setSpeed] = useState(1);
  const outline = useOutline(media, toldS);
  useVolumeOf(element);
  const { currentTime: positionS = 0, paused = true, ended = false } = element.current ?? {};
  const isPlaying = !paused && !ended;
  useNow(isPlaying, 50);

  const endS = toldS !== undefined && Number.isFinite(toldS) ? toldS : (outline?.durationS ?? 0);
  const loudness = useMemo(() => outline && ((count: number) => folded(outline.peaks, count)), [outline]);
  const toggle = () => {
    if (isPlaying) return element.current!.pause();
    element.current!.play().catch(draw); // it is broken, and says so
  };
  const seek = (timeS: number) => {
    element.current!.currentTime = timeS;
    draw();
  };
  const choose = (rate: number) => {
    element.current!.defaultPlaybackRate = element.current!.playbackRate = rate;
    setSpeed(rate);
  };
  return (
    <Face label={`Sound ${name}`} title={isCompact ? undefined : media.file_name} isPlaying={isPlaying} time={{ startS: 0, positionS, endS, wholeS: endS }} isCompact={isCompact}
      words={endS ? `${clock(positionS)} / ${clock(endS)}` : clock(positionS)} loudness={loudness}
      note={isBroken ? failure : ""} onToggle={toggle} onSeek={seek}>
      <audio ref={element} src={media.url} preload="metadata" aria-label={name}
        onLoadStart={() => setBroken(false)} onDurationChange={({ currentTarget: { duration } }) => tell(Number.isNaN(duration) ? undefined : duration)} onError={() => setBroken(true)}
        onPlay={({ currentTarget }) => { hear(currentTarget); draw(); }} onPause={draw} onEnded={draw} onSeeked={draw} />
      {!isCompact && (
        <>
          <select aria-label="Speed" value={speed} onChange={({ target }) => choose(Number(target.value))}>
            {SPEEDS.map((each) => <option key={each} value={each}>{each}×</option>)}
          </select>
          <VolumeControl />
          <InputSign media={media} />
          <DownloadSign media={media} name={fileName(media, "sound")} />
        </>
      )}
    </Face>
  );
}

function useOutline(media: Media, durationS: number | undefined): Outline | undefined {
  const [outline, setOutline] = useState<Outline>();
  useEffect(() => {
    let isWanted = durationS !== undefined;
    if (durationS !== undefined) outlineOf(media, durationS).then((found) => isWanted && setOutline(found));
    return () => void (isWanted = false);
  }, [media.url, durationS]);
  return outline;
}

function useVolumeOf(element: RefObject<HTMLAudioElement | null>): void {
  const { level, isMuted } = useSyncExternalStore(onVolume, volumeNow);
  useEffect(() => void Object.assign(element.current!, { volume: level, muted: isMuted }), [element, level, isMuted]);
}

interface FaceProps {
  label: string;
  title: string | undefined;
  isPlaying: boolean;
  /** Where it begins, is, ends so far, and may end. */
  time: { startS: number; positionS: number; endS: number; wholeS: number };
  words: string;
  /** How loud it is in so many spans; without it there is a line. */
  loudness: ((count: number) => number[]) | undefined;
  note: string;
  isCompact?: boolean;
  onToggle: () => void;
  onSeek: (timeS: number) => void;
  children: ReactNode;
}

/** What one sees of a player; the waveform is the slider of its position. */
function Face({ label, title, isPlaying, time, words, loudness, note, isCompact = false, onToggle, onSeek, children }: FaceProps) {
  const { startS, positionS, wholeS } = time;
  const share = (timeS: number) => (wholeS > startS ? Math.min(1, (timeS - startS) / (wholeS - startS)) : 0);
  const mark = (groove: HTMLElement | null) => {
    groove?.style.setProperty("--played", String(share(positionS)));
    groove?.style.setProperty("--come", String(share(time.endS)));
  };
  return (
    <section className={isCompact ? "sound compact" : "sound"} aria-label={label}>
      <IconButton className="round" sign={isPlaying ? "pause" : "play"} name={isPlaying ? "Pause" : "Play"} onClick={onToggle} />
      <div className={positionS > startS ? "groove" : "groove unbegun"} ref={mark}>
        {loudness ? <Wave loudness={loudness} /> : <span className="plain" />}
        <input type="range" aria-label="Position" min={startS} max={wholeS} step="any" value={positionS} disabled={wholeS <= startS} aria-valuetext={words}
          onChange={({ target }) => onSeek(target.valueAsNumber)} />
      </div>
      <div className="line below">
        <span className="time">{words}</span>
        <span className="note" title={note || title}>{title && !note && title}<span aria-live="polite">{note}</span></span>
        {children}
      </div>
    </section>
  );
}

/** As many bars as there is room for, drawn twice: what has been played has another colour. */
function Wave({ loudness }: { loudness: (count: number) => number[] }) {
  const box = useRef<HTMLDivElement>(null);
  const [count, setCount] = useState(120);
  useEffect(() => {
    const resized = new ResizeObserver(() => setCount(Math.max(1, Math.floor(box.current!.clientWidth / BAR_PX))));
    resized.observe(box.current!);
    return () => resized.disconnect();
  }, []);
  const bars = useMemo(() => {
    const heights = loudness(count).map((peak) => Math.max(QUIET, peak ** 0.6));
    return heights.map((height, n) => `M${n + 0.5} ${(-height).toFixed(3)}V${height.toFixed(3)}`).join("");
  }, [loudness, count]);
  return (
    <div className="wave" ref={box}>
      {["all", "come", "played"].map((layer) => (
        <svg key={layer} viewBox={`0 -1.05 ${count} 2.1`} preserveAspectRatio="none" className={layer} aria-hidden="true"><path d={bars} /></svg>
      ))}
    </div>
  );
}

function VolumeControl() {
  const { level, isMuted } = useSyncExternalStore(onVolume, volumeNow);
  return (
    <span className="volume">
      <IconButton sign={gainNow() === 0 ? "mute" : "loud"} name="Mute" isPressed={isMuted} onClick={() => setVolume({ isMuted: !isMuted })} />
      <input type="range" aria-label="Volume" min={0} max={1} step={0.05} value={level} aria-valuetext={`${Math.round(100 * level)} %`}
        onChange={({ target }) => setVolume({ level: target.valueAsNumber, isMuted: false })} />
    </span>
  );
}

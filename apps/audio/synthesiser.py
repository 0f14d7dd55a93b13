"""A small synthesiser: what is played while no model is named. It is rules and sine waves, and has learned nothing.

The words of a prompt choose key, tempo, mood and instruments (`style_of`), the seed the notes (`compose`). A note is
added up where it begins, with its echo; what sounds on when a bar is over is carried over to the next one, so bars
join to the sample (`Synthesiser.perform`).
"""

import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .wav import Samples

Line = NDArray[np.float64]  # one channel
Mix = NDArray[np.float64]  # (frames, 2)

RATE = 32_000
Voice = Literal["pad", "piano", "bell", "organ", "flute", "bass", "kick", "snare", "hat"]

_KEYS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_MAJOR, _MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
_SAD = r"\b(sad|dark|night|rain\w*|cold|minor|lonely|melanchol\w*|winter|moody|mysterious)\b"
_SLOW = r"\b(slow|calm|quiet|sleep\w*|ambient|relax\w*|soft|gentle|lullaby|peaceful)\b"
_FAST = r"\b(fast|dance|happy|energetic|party|upbeat|wild|techno|run\w*)\b"
_PLAYED: tuple[tuple[str, Voice], ...] = (
    (r"\b(bells?|glockenspiel|music box|winter|lullaby)\b", "bell"),
    (r"\b(organ|church|retro)\b", "organ"),
    (r"\b(flutes?|whistle|pan pipes|wind)\b", "flute"),
)
_NAMED = r"(?:melody|piano|bells?|glockenspiel|music box|organ|flutes?|whistle|bass|drums?|beats?)"
_LEFT_OUT = re.compile(rf"\b(?:no|without)( (?:any |an? |the )?{_NAMED}(?:(?:, {_NAMED})*,? (?:and|or) {_NAMED})?)\b")
_KEY = re.compile(r"\b([a-g])(#|♯|[ -]sharp|b|♭|[ -]flat)?[ -](major|minor)\b")
_SHIFTS = {"#": 1, "♯": 1, "sharp": 1, "b": -1, "♭": -1, "flat": -1, "": 0}
# As degrees of the scale, a chord for each bar.
_CHORDS = {False: ((0, 4, 5, 3), (0, 5, 3, 4), (0, 2, 3, 4)), True: ((0, 5, 2, 6), (0, 3, 5, 6), (0, 6, 5, 4))}
_RHYTHMS = ((0, 1, 2, 3), (0, 1.5, 2, 3.5), (0, 0.5, 1, 2, 3), (0, 2, 2.5, 3), (0, 1, 1.5, 2.5))
_BEATS = 4  # of a bar
_ECHO_BEATS, _ECHO = 0.75, 0.28
_FADE_S = 1.5


@dataclass(frozen=True, slots=True)
class Style:
    """Say how it is to sound."""

    key: int  # semitones above C
    is_minor: bool
    bpm: int
    melody: Voice | None
    has_bass: bool
    has_drums: bool


@dataclass(frozen=True, slots=True)
class Note:
    """Place a sound: `beat` from the beginning, `pitch` as in MIDI, `pan` from -1, left, to 1."""

    beat: float
    beats: float
    voice: Voice
    pitch: int
    gain: float
    pan: float = 0.0


def style_of(prompt: str, seed: int) -> Style:
    """Read a prompt's words; what they leave open the seed decides."""
    left_out = " ".join(_LEFT_OUT.findall(prompt.lower()))
    words = _LEFT_OUT.sub("", prompt.lower())
    drawn = random.Random(seed)
    key, bpm = drawn.randrange(12), drawn.randrange(88, 108)
    is_sad, is_slow, is_fast = (re.search(kind, words) is not None for kind in (_SAD, _SLOW, _FAST))
    if named := _KEY.search(words):
        key, is_sad = (_KEYS[named[1]] + _SHIFTS[(named[2] or "").lstrip(" -")]) % 12, named[3] == "minor"
    if is_slow or is_fast:
        bpm = drawn.randrange(60, 76) if is_slow else drawn.randrange(120, 134)
    if told := re.search(r"\b(\d{2,3}) ?bpm\b", words):
        bpm = min(200, max(40, int(told[1])))
    melody: Voice = next((voice for pattern, voice in _PLAYED if re.search(pattern, words)), "piano")
    wants_drums = re.search(r"\b(drums?|beats?)\b", words) is not None or not is_slow
    return Style(
        key=key,
        is_minor=is_sad,
        bpm=bpm,
        melody=None if "melody" in left_out or melody in left_out else melody,
        has_bass="bass" not in left_out,
        has_drums=wants_drums and not re.search("drum|beat", left_out),
    )


def compose(style: Style, seed: int) -> Iterator[list[Note]]:
    """Yield the notes of each bar, for ever; instruments come in one after another."""
    drawn = random.Random(seed)
    chords = drawn.choice(_CHORDS[style.is_minor])
    motifs = [_motif(drawn), _motif(drawn)]
    bar = 0
    while True:
        if bar % 16 == 15:
            motifs[1] = _motif(drawn)
        root = chords[bar % 4]
        notes = _chord(style, root)
        if style.has_bass and bar >= 1:
            notes += _bass(style, root)
        if style.has_drums and bar >= 2:
            notes += _drums(drawn)
        if style.melody is not None:
            notes += _melody(style, style.melody, root, motifs[bar % 4 == 2])
        start = bar * _BEATS
        yield [Note(start + n.beat, n.beats, n.voice, n.pitch, n.gain, n.pan) for n in notes]
        bar += 1


class Synthesiser:
    """Play by rules.

    Attributes:
        max_s: it could go on for ever; the limit is for those who wait.
    """

    rate = RATE
    channels = 2
    max_s = 180.0

    def perform(self, prompt: str, *, duration_s: float, seed: int) -> Iterator[Samples]:
        """Yield the sound bar by bar, round(duration_s * rate) frames in all, and let it fade out."""
        style = style_of(prompt, seed)
        total = round(duration_s * RATE)
        beat = 60 * RATE / style.bpm  # frames
        carried: Mix = np.zeros((0, 2))
        done = 0
        for bar, notes in enumerate(compose(style, seed), 1):
            frames = round(bar * _BEATS * beat) - done
            mix = _mixed(notes, carried, beat=beat, done=done)
            carried = mix[frames:]
            yield _faded(np.tanh(mix[:frames])[: total - done], done, total).astype(np.float32)
            done += frames
            if done >= total:
                return


def _mixed(notes: list[Note], carried: Mix, *, beat: float, done: int) -> Mix:
    """Add notes to what is left of those before, for as long as one of them sounds, a bar at least."""
    placed = []
    for note in notes:
        line = note.gain * sound(note.voice, note.pitch, round(note.beats * beat))
        start = round(note.beat * beat) - done
        placed.append((start, line, note.pan))
        if note.voice in ("piano", "bell", "flute"):
            placed.append((start + round(_ECHO_BEATS * beat), _ECHO * line, -0.7))
    ends = [start + len(line) for start, line, _ in placed]
    mix: Mix = np.zeros((max(len(carried), math.ceil(_BEATS * beat), *ends), 2))
    mix[: len(carried)] = carried
    for start, line, pan in placed:
        angle = (pan + 1) * math.pi / 4
        mix[start : start + len(line), 0] += math.cos(angle) * line
        mix[start : start + len(line), 1] += math.sin(angle) * line
    return mix


def _faded(piece: Mix, done: int, total: int) -> Mix:
    left = total - 1 - np.arange(done, done + len(piece))
    return piece * np.clip(left / (_FADE_S * RATE), 0, 1)[:, None]


# What is played in a bar


def _pitch(style: Style, degree: int, octave: int) -> int:
    scale = _MINOR if style.is_minor else _MAJOR
    return 12 * (octave + 1 + degree // 7) + style.key + scale[degree % 7]


def _chord(style: Style, root: int) -> list[Note]:
    tones = [(root, -0.5), (root + 2, 0.5), (root + 4, 0.0)]
    return [Note(0, _BEATS, "pad", _pitch(style, degree % 7, 4), 0.1, pan) for degree, pan in tones]


def _bass(style: Style, root: int) -> list[Note]:
    pitch = _pitch(style, root % 7, 2)
    return [Note(beat, beats, "bass", pitch, 0.34) for beat, beats in ((0, 1.5), (1.5, 0.5), (2, 1.5), (3.5, 0.5))]


def _drums(drawn: random.Random) -> list[Note]:
    kicks = [Note(beat, 1, "kick", 0, 0.55) for beat in (0, 2, *drawn.choice(((), (2.5,), (3.5,))))]
    snares = [Note(beat, 1, "snare", 0, 0.2) for beat in (1, 3)]
    hats = [Note(n / 2, 0.5, "hat", 0, 0.05 if n % 2 else 0.09, 0.3) for n in range(8)]
    return [*kicks, *snares, *hats]


def _motif(drawn: random.Random) -> list[tuple[float, int]]:
    """Draw a rhythm, and steps from the chord's root that go up and down."""
    rhythm = drawn.choice(_RHYTHMS)
    steps, at = [], drawn.choice((0, 2, 4))
    for beat in rhythm:
        steps.append((beat, at))
        at = min(7, max(-2, at + drawn.choice((-2, -1, -1, 1, 1, 2))))
    return steps


def _melody(style: Style, voice: Voice, root: int, motif: list[tuple[float, int]]) -> list[Note]:
    ends = [beat for beat, _ in motif[1:]] + [float(_BEATS)]
    gain = {"piano": 0.22, "bell": 0.16, "organ": 0.1, "flute": 0.2}[voice]
    base = root if root < 4 else root - 7
    return [
        Note(beat, end - beat, voice, _pitch(style, base + step, 5), gain, 0.25)
        for (beat, step), end in zip(motif, ends, strict=True)
    ]


# How it sounds


@lru_cache(maxsize=256)
def sound(voice: Voice, pitch: int, frames: int) -> Line:
    """Return a note by itself: it begins and ends in silence, its release being longer than `frames`."""
    if voice in ("kick", "snare", "hat"):
        return _struck(voice)
    attack_s, release_s, decay, partials = _TIMBRES[voice]
    size = frames + round(release_s * RATE)
    t = np.arange(size) / RATE
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    line = np.zeros(size)
    for multiple, amplitude in partials:
        if frequency * multiple < 0.45 * RATE:  # else it would come back as another tone
            line += amplitude * np.exp(-decay * multiple * t) * np.sin(math.tau * frequency * multiple * t)
    return line * _envelope(size, round(attack_s * RATE), round(release_s * RATE))


# Attack, release, how fast the first partial decays, and partials: multiples of the tone, how strong.
_TIMBRES: dict[str, tuple[float, float, float, tuple[tuple[float, float], ...]]] = {
    "pad": (0.12, 0.6, 0.0, ((0.997, 0.5), (1.003, 0.5), (2.004, 0.22), (3, 0.1), (4, 0.04))),
    "piano": (0.004, 0.25, 1.3, ((1, 1), (2, 0.45), (3, 0.22), (4, 0.12), (5, 0.06), (6, 0.03))),
    "bell": (0.003, 1.2, 1.1, ((1, 1), (2.76, 0.4), (5.4, 0.16), (8.9, 0.05))),
    "organ": (0.02, 0.08, 0.0, ((0.5, 0.5), (1, 1), (2, 0.6), (3, 0.3), (4, 0.25))),
    "flute": (0.06, 0.15, 0.0, ((1, 1), (2, 0.14), (3, 0.05))),
    "bass": (0.006, 0.08, 0.8, ((1, 1), (2, 0.4), (3, 0.12))),
}


def _envelope(size: int, attack: int, release: int) -> Line:
    """Rise and fall as half a cosine does: a straight line would be heard where it bends."""
    n = np.arange(size)
    edge = np.minimum(np.minimum(n / attack, (size - 1 - n) / release), 1)
    return (1 - np.cos(math.pi * edge)) / 2


def _struck(voice: Voice) -> Line:
    size = {"kick": 0.3, "snare": 0.18, "hat": 0.06}[voice]
    t = np.arange(round(size * RATE)) / RATE
    noise = np.random.default_rng(len(voice)).uniform(-1, 1, len(t))
    if voice == "kick":  # a tone that falls from 160 to 45 Hz
        line = np.sin(math.tau * (45 * t + 115 * (1 - np.exp(-t * 30)) / 30)) * np.exp(-t * 9)
    elif voice == "snare":
        line = (0.8 * noise + 0.5 * np.sin(math.tau * 190 * t)) * np.exp(-t * 22)
    else:
        line = np.diff(noise, prepend=0) * np.exp(-t * 70)
    return line * _envelope(len(t), round(0.001 * RATE), round(0.02 * RATE))

"""Sound as it is passed on: samples, the chunks they are cut into, and WAV files."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]  # (frames, channels), -1 to 1
BYTES = 2  # of a sample in a file


@dataclass(frozen=True, slots=True)
class Sketch:
    """Hold how the beginning may come to sound, after a step of `total`; a later one takes its place."""

    samples: Samples
    step: int
    total: int


def wav(samples: Samples, rate: int) -> bytes:
    """Return a WAV file of 16 bits."""
    return header(rate, channels=samples.shape[1], frames=len(samples)) + pcm(samples)


def header(rate: int, *, channels: int, frames: int) -> bytes:
    """Return what a WAV file of so many frames begins with, whether they are there already or not.

    Source: https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html
    """
    frame = channels * BYTES
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * frame, frame, 8 * BYTES)
    size = struct.pack("<I", frames * frame)
    return b"RIFF" + struct.pack("<I", 36 + frames * frame) + b"WAVEfmt " + form + b"data" + size


def pcm(samples: Samples) -> bytes:
    """Return samples as they stand in the file; what is too loud is clipped."""
    return np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def in_chunks(pieces: Iterable[Samples | Sketch], *, size: int, total: int) -> Iterator[Samples | Sketch]:
    """Cut pieces of any length into chunks of `size` frames, `total` in all; sketches are passed on as they are."""
    left, held = total, []
    for piece in pieces:
        if isinstance(piece, Sketch):
            yield piece
            continue
        held.append(piece)
        whole = np.concatenate(held)
        while len(whole) >= min(size, left) > 0:
            chunk, whole = np.split(whole, [min(size, left)])
            left -= len(chunk)
            yield chunk
        held = [whole]

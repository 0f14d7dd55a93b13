"""Models that make sound: MusicGen, frame by frame, and Stable Audio, all of it at once and in steps."""

import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from diffusers import DiffusionPipeline, StableAudioPipeline
from transformers import AutoConfig, AutoTokenizer, MusicgenForConditionalGeneration, StoppingCriteria

from .wav import Samples, Sketch

T = TypeVar("T")
Push = Callable[[T], None]

# Seconds of MusicGen's codes that are decoded at a time; held back at their end, where the decoder knows less than it
# will, and in half of which the next ones fade in; decoded along before them, as the decoder remembers.
_PIECE_S, _OVERLAP_S, _CONTEXT_S = 0.5, 0.2, 2.0
_STEPS, _STEPS_PER_SKETCH = 100, 10
_SKETCH_S = 4  # all of it would take as long to decode as the result


def load(name: str) -> "MusicGen | StableAudio":
    """Load a model by its folder or hub id, to the GPU where there is one.

    Raises:
        ValueError: it is none of the two.
    """
    try:
        kind = DiffusionPipeline.load_config(name)["_class_name"]
    except OSError:  # it is no pipeline
        kind = AutoConfig.from_pretrained(name).model_type
    if kind == "musicgen":
        return MusicGen(name)
    if kind == "StableAudioPipeline":
        return StableAudio(name)
    raise ValueError(f"expected a model of MusicGen's or Stable Audio's structure; {name} is {kind}")


class MusicGen:
    """Play by a MusicGen; its codes are decoded while the next ones are made."""

    max_s = 30.0  # what it was trained on

    def __init__(self, name: str) -> None:
        device, dtype = _place()
        self._tokenizer = AutoTokenizer.from_pretrained(name)
        self._model = MusicgenForConditionalGeneration.from_pretrained(name, dtype=dtype).to(device)
        self.rate: int = self._model.config.audio_encoder.sampling_rate
        self.channels: int = self._model.config.decoder.audio_channels

    def perform(self, prompt: str, *, duration_s: float, seed: int) -> Iterator[Samples | Sketch]:
        """Yield half a second at a time, as soon as it is known."""

        def generate(push: Push[Samples]) -> None:
            decoding = Decoding(self._model, push, duration_s)
            torch.manual_seed(seed)
            words = self._tokenizer([prompt], return_tensors="pt").to(self._model.device)
            self._model.generate(**words, do_sample=True, max_length=decoding.columns, stopping_criteria=[decoding])

        return pushed(generate)


class Decoding(StoppingCriteria):  # type: ignore[misc]  # transformers is half typed
    """Hear of the codes after each step, and push their sound.

    Each codebook is a step behind the one before it: where the first has its nth code, the last has its code for the
    frame `delay` steps before. Source: https://arxiv.org/abs/2306.05284, section 2.2.

    It is no streamer, as MusicGen's `generate` takes one and, as of transformers 5.23, tells it nothing.

    Attributes:
        columns: how long the sequence becomes; the first column is no code, and begins it.
    """

    def __init__(self, model: MusicgenForConditionalGeneration, push: Push[Samples], duration_s: float) -> None:
        rate, hop = model.config.audio_encoder.sampling_rate, model.config.audio_encoder.hop_length
        self._codec, self._hop, self._push = model.audio_encoder, hop, push
        self._channels: int = model.config.decoder.audio_channels
        self._delay: int = model.decoder.num_codebooks // self._channels
        self._piece, self._overlap, self._context = (
            round(seconds * rate / hop) for seconds in (_PIECE_S, _OVERLAP_S, _CONTEXT_S)
        )
        self.columns = math.ceil(duration_s * rate / hop) + self._delay
        self._done = 0  # frames
        self._tail: torch.Tensor | None = None  # what the next piece fades in over

    @torch.no_grad()
    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Decode what is new, if it is enough.

        Raises:
            _Ended: that was all; `generate` itself would now decode it once more.
        """
        frames = input_ids.shape[1] - self._delay
        if input_ids.shape[1] == self.columns:
            self._decode(input_ids, frames, kept=0)
            raise _Ended
        if frames - self._done >= self._piece + self._overlap:
            self._decode(input_ids, frames, kept=self._overlap)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def _decode(self, sequence: torch.Tensor, frames: int, *, kept: int) -> None:
        """Push all that is new, but for the last frames, of which the next time will know more."""
        start = max(0, self._done - self._context)
        sound = self._sound(sequence, start, frames)[(self._done - start) * self._hop :]
        if self._tail is not None:
            rise = torch.linspace(0, 1, len(self._tail))[:, None]
            sound[: len(self._tail)] = rise * sound[: len(self._tail)] + (1 - rise) * self._tail
        end = len(sound) - kept * self._hop
        self._tail = sound[end:][: kept * self._hop // 2]  # the decoder's convolutions reach a few frames ahead
        self._done = frames - kept
        self._push(sound[:end].numpy())

    def _sound(self, sequence: torch.Tensor, start: int, frames: int) -> torch.Tensor:
        """Return the sound of the frames from `start` on: (samples, channels)."""
        behind = [1 + book // self._channels for book in range(len(sequence))]  # the channels' books take turns
        codes = torch.stack([of[start + n : frames + n] for of, n in zip(sequence, behind, strict=True)])
        of_channels = [codes[None, None, channel :: self._channels] for channel in range(self._channels)]
        sounds = [self._codec.decode(each, [None]).audio_values[0, 0] for each in of_channels]
        return torch.stack(sounds, 1).float().cpu()


class StableAudio:
    """Play by a Stable Audio, which makes all of the sound in steps: sketches tell how it begins."""

    def __init__(self, name: str) -> None:
        device, dtype = _place()
        self._pipe = StableAudioPipeline.from_pretrained(name, dtype=dtype).to(device)
        self._pipe.set_progress_bar_config(disable=True)
        self.rate: int = self._pipe.vae.config.sampling_rate
        self.channels: int = self._pipe.vae.config.audio_channels
        self.max_s: float = self._pipe.transformer.config.sample_size * self._pipe.vae.hop_length / self.rate

    def perform(self, prompt: str, *, duration_s: float, seed: int) -> Iterator[Samples | Sketch]:
        """Yield a sketch every ten steps, then all."""

        def generate(push: Push[Samples | Sketch]) -> None:
            def sketch(step: int, timestep: int, latents: torch.Tensor) -> None:
                push(Sketch(self._sketched(duration_s), step + 1, _STEPS))

            audios = self._pipe(
                prompt,
                audio_end_in_s=duration_s,
                num_inference_steps=_STEPS,
                generator=torch.Generator().manual_seed(seed),  # the CPU's: the same sound on every machine
                callback=sketch,
                callback_steps=_STEPS_PER_SKETCH,
            ).audios
            push(_samples(audios))

        return pushed(generate)

    def _sketched(self, duration_s: float) -> Samples:
        """Decode how the model expects the beginning to end up, which its scheduler knows."""
        vae = self._pipe.vae
        frames = math.ceil(min(duration_s, _SKETCH_S) * self.rate / vae.hop_length)
        expected = self._pipe.scheduler.model_outputs[-1][:, :, :frames]
        return _samples(vae.decode(expected.to(vae.dtype)).sample)


def _samples(audios: torch.Tensor) -> Samples:
    samples: Samples = audios[0].T.float().cpu().numpy()
    return samples


def _place() -> tuple[str, torch.dtype]:
    return ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)


class _Ended(Exception):
    """End what has made all that is wanted."""


def pushed(work: Callable[[Push[T]], None]) -> Iterator[T]:
    """Yield what `work` pushes: in a thread, in turns with the caller; its next push ends it when that has left."""
    asked, given = threading.Semaphore(0), threading.Semaphore(0)
    box: list[T] = []
    failure: list[BaseException] = []
    is_left = False

    def push(item: T) -> None:
        box.append(item)
        given.release()
        wait()

    def wait() -> None:
        asked.acquire()
        if is_left:
            raise _Ended

    def run() -> None:
        try:
            wait()
            work(push)
        except _Ended:
            pass
        except BaseException as error:  # the model's; it is raised where the sound is asked for
            failure.append(error)
        finally:
            given.release()

    thread = threading.Thread(target=run, name="model", daemon=True)
    thread.start()
    try:
        while True:
            asked.release()
            given.acquire()
            if not box:
                break
            yield box.pop()
    finally:
        is_left = True
        asked.release()
        thread.join()
    if failure:
        raise failure[0]

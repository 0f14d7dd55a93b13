"""The app of fal's documentation runs here as it is written there; `import streamapp.fal as fal` is all that changes.

Its structure is kept: a thread and a queue made by hand, a `StreamingResponse` of SSE lines, an image as a result.
The models are stand-ins with the same calls; in the last test they are real ones of SDXL's structure.
"""

import base64
import json
import random
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import httpx
import PIL.Image
import pytest
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

import streamapp.fal as fal
from streamapp.settings import Settings
from streamapp.testing import TestClient

MODEL = Path(__file__).parent.parent / "apps" / "sdxl" / "tiny" / "model"


class Latents:
    """What the pipeline shows after a step; stands for a tensor."""

    def __init__(self, picture: PIL.Image.Image) -> None:
        self.picture = picture

    def __truediv__(self, factor: float) -> "Latents":
        return self


class TinyVae:
    config = SimpleNamespace(scaling_factor=0.13)

    def decode(self, latents: Latents, return_dict: bool) -> tuple[PIL.Image.Image]:
        return (latents.picture,)


class Pipeline:
    """Draw red, and take a step when the test lets it."""

    def __init__(self) -> None:
        self.permits = threading.Semaphore(0)
        self.image_processor = SimpleNamespace(postprocess=lambda image, output_type: [image])

    def __call__(
        self, *, width: int, height: int, num_inference_steps: int, callback_on_step_end: Any = None, **others: Any
    ) -> SimpleNamespace:
        picture = PIL.Image.new("RGB", (width, height), "red")
        for step in range(num_inference_steps):
            self.permits.acquire()
            if callback_on_step_end is not None:
                callback_on_step_end(self, step, 0, {"latents": Latents(picture)})
        return SimpleNamespace(images=[picture])


class Generator:
    def __init__(self, device: str) -> None:
        self.device = device

    def manual_seed(self, seed: int) -> "Generator":
        return self


torch: Any = SimpleNamespace(Generator=Generator, no_grad=nullcontext)


class StreamInput(BaseModel):
    prompt: str = Field(description="The prompt to generate an image from.")
    negative_prompt: str = Field(default="blurry, low quality")
    num_inference_steps: int = Field(default=20, ge=1, le=50)
    width: int = Field(default=1024)
    height: int = Field(default=1024)
    seed: int | None = Field(default=None)


def to_data_uri(image: Any, quality: int) -> str:
    buffer = BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


class StreamingSDXLApp(fal.App):
    machine_type = "GPU-A100"
    requirements = ["accelerate==1.4.0", "--extra-index-url", "https://example.com/whl"]

    def setup(self):  # type: ignore[no-untyped-def]
        self.pipeline: Any = Pipeline()
        self.tiny_vae: Any = TinyVae()

    @fal.endpoint("/stream")
    def stream_image(self, input: StreamInput) -> StreamingResponse:
        seed = input.seed if input.seed is not None else random.randint(0, 2**32 - 1)
        generator = torch.Generator(device="cpu").manual_seed(seed)
        event_queue: Queue[dict[str, Any] | None] = Queue()

        def pipeline_callback(pipe: Any, step: int, timestep: int, callback_kwargs: dict[str, Any]) -> dict[str, Any]:
            if step > 0 and step % 5 != 0:
                return callback_kwargs
            latents = callback_kwargs["latents"]
            with torch.no_grad():
                image = self.tiny_vae.decode(latents / self.tiny_vae.config.scaling_factor, return_dict=False)[0]
                image = self.pipeline.image_processor.postprocess(image, output_type="pil")[0]
            event_queue.put({"image": {"url": to_data_uri(image, 70), "content_type": "image/jpeg"}})
            return callback_kwargs

        def event_stream() -> Iterator[str]:
            def run_pipeline() -> None:
                result = self.pipeline(
                    prompt=input.prompt,
                    negative_prompt=input.negative_prompt,
                    width=input.width,
                    height=input.height,
                    num_inference_steps=input.num_inference_steps,
                    generator=generator,
                    callback_on_step_end=pipeline_callback,
                )
                event_queue.put({"image": {"url": to_data_uri(result.images[0], 95), "content_type": "image/jpeg"}})
                event_queue.put(None)

            thread = threading.Thread(target=run_pipeline)
            thread.start()
            while True:
                event = event_queue.get()
                if event is None:
                    break
                yield f"data: {json.dumps(event)}\n\n"
            thread.join()

        return StreamingResponse(event_stream(), media_type="text/event-stream")

    @fal.endpoint("/")
    def generate(self, input: StreamInput) -> dict[str, Any]:
        """Standard non-streaming endpoint."""
        seed = input.seed if input.seed is not None else random.randint(0, 2**32 - 1)
        generator = torch.Generator(device="cpu").manual_seed(seed)
        result = self.pipeline(
            prompt=input.prompt,
            negative_prompt=input.negative_prompt,
            width=input.width,
            height=input.height,
            num_inference_steps=input.num_inference_steps,
            generator=generator,
        )
        return {"image": result.images[0], "seed": seed}


class Probed(StreamingSDXLApp):
    """The same, and an endpoint that tells whether the inference thread is free."""

    @fal.endpoint("/probe")
    def probe(self) -> str:
        return "free"


SMALL: dict[str, Any] = {"prompt": "a red circle", "num_inference_steps": 6, "width": 16, "height": 8}


@pytest.fixture
def app() -> Probed:
    return Probed()


@pytest.fixture
def client(app: Probed) -> Iterator[TestClient]:
    with TestClient(app, settings=Settings(drain_s=0, timeout_s=60)) as client:
        yield client
        app.pipeline.permits.release(1000)


def pictures(text: str) -> list[PIL.Image.Image]:
    """Decode the images of an SSE body."""
    events = [json.loads(block.removeprefix("data: ")) for block in text.split("\n\n") if block]
    assert {event["image"]["content_type"] for event in events} == {"image/jpeg"}
    return [decode(event["image"]["url"]) for event in events]


def decode(url: str) -> PIL.Image.Image:
    return PIL.Image.open(BytesIO(base64.b64decode(url.partition(",")[2])))


def test_its_stream_passes_unchanged(app: Probed, client: TestClient) -> None:
    app.pipeline.permits.release(6)
    answer = client.post("/stream", json=SMALL)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert [picture.size for picture in pictures(answer.text)] == [(16, 8)] * 3  # after steps 1 and 6, and the result


def test_its_stream_is_read_by_an_event_source_too(app: Probed, client: TestClient) -> None:
    app.pipeline.permits.release(6)
    answer = client.http.get("/stream", params=SMALL)
    assert (answer.headers["content-type"], len(pictures(answer.text))) == ("text/event-stream; charset=utf-8", 3)


def test_its_stream_is_the_outputs_of_a_job(app: Probed, client: TestClient) -> None:
    app.pipeline.permits.release(6)
    job_id = client.post("/stream", json=SMALL, headers={"Prefer": "respond-async"}).json()["job_id"]
    client.get(f"/jobs/{job_id}/events")
    outputs = client.get(f"/jobs/{job_id}/result?aggregate=1").json()
    assert [decode(output["image"]["url"]).size for output in outputs] == [(16, 8)] * 3


def test_its_plain_endpoint_returns_a_picture_and_the_seed(app: Probed, client: TestClient) -> None:
    app.pipeline.permits.release(6)
    answer = client.post("/", json={**SMALL, "seed": 7}).json()
    assert (answer["seed"], answer["image"]["content_type"]) == (7, "image/png")
    assert decode(answer["image"]["url"]).size == (16, 8)


def test_its_input_is_checked_before_anything_runs(client: TestClient) -> None:
    answer = client.post("/stream", json={"num_inference_steps": 51})
    assert (answer.status_code, [error["loc"][1] for error in answer.json()["detail"]]) == (
        422,
        ["prompt", "num_inference_steps"],
    )


def test_the_next_request_waits_for_the_end_of_the_stream(app: Probed, client: TestClient) -> None:
    app.pipeline.permits.release(1)
    with client.http.stream("POST", "/stream", json=SMALL) as answer:
        chunks = answer.iter_text()
        next(chunks)
        second = client.post("/", json=SMALL, headers={"Prefer": "respond-async"}).json()["job_id"]
        assert client.job(second).status == "queued"
        app.pipeline.permits.release(11)
        assert len(list(chunks)) == 2
    client.get(f"/jobs/{second}/events")
    assert client.job(second).status == "succeeded"


def test_a_client_that_leaves_frees_the_inference_thread(app: Probed, client: TestClient) -> None:
    """Its own thread goes on to the end, which nothing can stop; the slot does not wait for it."""
    app.pipeline.permits.release(1)
    with client.http.stream("POST", "/stream", json=SMALL) as answer:
        next(answer.iter_text())
    assert client.run("/probe") == "free"


def test_its_deadline_cuts_the_stream(app: Probed) -> None:
    with TestClient(app, settings=Settings(drain_s=0, timeout_s=2)) as client:
        app.pipeline.permits.release(1)
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/stream", json=SMALL)
        assert client.run("/probe") == "free"
        app.pipeline.permits.release(1000)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")  # the pipeline would raise, the stream hang
def test_with_real_models_it_draws_previews_and_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    real_torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")

    class Real(StreamingSDXLApp):
        def setup(self):  # type: ignore[no-untyped-def]
            self.pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(MODEL, dtype=real_torch.float32)
            self.pipeline.set_progress_bar_config(disable=True)
            self.tiny_vae = diffusers.AutoencoderTiny.from_pretrained(MODEL / "vae_tiny")

    monkeypatch.setitem(globals(), "torch", real_torch)
    with TestClient(Real, settings=Settings(drain_s=0)) as client:
        answer = client.post("/stream", json={**SMALL, "width": 64, "height": 64, "seed": 1})
    first, second, result = pictures(answer.text)
    assert {first.size, second.size, result.size} == {(64, 64)}
    assert first.tobytes() != second.tobytes()

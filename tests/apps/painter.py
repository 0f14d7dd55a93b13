"""The app that the clients' READMEs call: a stream with previews, a session, a caption, a number, a page."""

import PIL.Image
from starlette.responses import HTMLResponse

import streamapp

PICTURE = PIL.Image.new("RGB", (8, 8), "red")


class Painter(streamapp.App):
    @streamapp.endpoint("/stream")
    def stream(self, prompt: str, stream: streamapp.Stream) -> dict[str, PIL.Image.Image]:
        for step in (1, 2):
            stream.progress(step, 2)
            stream.preview(PICTURE, step=step, total=2)
        stream.log(prompt)
        return {"image": PICTURE}

    @streamapp.realtime("/realtime", webrtc=True)
    def brush(self, x: float, y: float = 0) -> dict[str, PIL.Image.Image]:
        return {"image": PICTURE}

    @streamapp.endpoint("/caption")
    def caption(self, image: streamapp.Image) -> str:
        return f"{image.width} by {image.height}"

    @streamapp.endpoint("/draw")
    def draw(self, seed: int) -> dict[str, int]:
        return {"seed": seed}

    @streamapp.endpoint("/page")
    def page(self, title: str) -> HTMLResponse:
        return HTMLResponse(f"<h1>{title}</h1>")

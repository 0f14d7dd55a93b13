"""An app as fal's public demos are written: only the first import names streamapp instead of fal."""

import PIL.Image
import PIL.ImageFilter
from fastapi import Request, Response
from pydantic import BaseModel, Field

import streamapp.fal as fal
from streamapp.fal.exceptions import FieldException
from streamapp.fal.toolkit import Image, ImageSizeInput, get_image_size
from streamapp.fal.toolkit.image import ImageSize
from streamapp.fal.toolkit.image.safety_checker import postprocess_images
from streamapp.fal.toolkit.utils.endpoint import cancel_on_disconnect


class TextToImageInput(BaseModel):
    prompt: str = Field(description="What to paint.", examples=["red"])
    image_size: ImageSizeInput = Field(default="square", description="How large.")
    num_images: int = Field(default=1, ge=1, le=4)
    seed: int | None = None
    enable_safety_checker: bool = False


class BlurInput(BaseModel):
    image: Image = Field(description="The image to blur.")
    radius: float = 2


class Output(BaseModel):
    images: list[Image]
    seed: int
    has_nsfw_concepts: list[bool]


class Caption(BaseModel):
    text: str
    request_id: str | None


class Painter(
    fal.App,
    name="painter",
    keep_alive=300,
    max_concurrency=1,
):
    machine_type = "GPU"
    requirements = ["pillow"]

    def setup(self) -> None:
        self.colors = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}

    @fal.endpoint("/")
    def text_to_image(self, input: TextToImageInput, response: Response) -> Output:
        if input.prompt not in {*self.colors, "noise"}:
            raise FieldException("prompt", f"paint one of {', '.join(self.colors)}", billable_units=0.5)
        size = get_image_size(input.image_size)
        images = [self._paint(input.prompt, size) for _ in range(input.num_images)]
        checked = postprocess_images(images, input.enable_safety_checker)
        response.headers["x-fal-billable-units"] = str(input.num_images)
        return Output(
            images=[Image.from_pil(image, format="png") for image in checked["images"]],
            seed=input.seed or 42,
            has_nsfw_concepts=checked["has_nsfw_concepts"],
        )

    @fal.endpoint("/blur")
    def blur(self, input: BlurInput) -> Output:
        blurred = input.image.to_pil().filter(PIL.ImageFilter.GaussianBlur(input.radius))
        return Output(images=[Image.from_pil(blurred, format="jpeg")], seed=0, has_nsfw_concepts=[False])

    @fal.endpoint("/caption")
    async def caption(self, input: BlurInput, request: Request) -> Caption:
        async with cancel_on_disconnect(request):
            return Caption(text=input.image.url[:5], request_id=request.headers.get("x-fal-request-id"))

    def _paint(self, color: str, size: ImageSize) -> PIL.Image.Image:
        if color == "noise":  # a PNG cannot make it small
            return PIL.Image.effect_noise((size.width, size.height), 60)
        return PIL.Image.new("RGB", (size.width, size.height), self.colors[color])

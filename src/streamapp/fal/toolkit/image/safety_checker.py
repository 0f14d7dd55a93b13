"""Black out images that a classifier finds unsafe."""

import functools
import sys
from typing import Any

import PIL.Image

MODEL = "Falconsai/nsfw_image_detection"
_THRESHOLD = 0.5


def postprocess_images(
    pil_images: list[PIL.Image.Image],
    enable_safety_checker: bool = True,
    safety_checker_version: int = 2,
    *,
    model: str = MODEL,
) -> dict[str, Any]:
    """Return `images`, the unsafe ones black, and `has_nsfw_concepts`. Blocks.

    Args:
        safety_checker_version: without effect, there is one classifier.
        model: an image classifier with a label "nsfw": a name on the Hugging Face hub or a folder.
    Raises:
        RuntimeError: the app has not imported transformers, or the model is not to be had.
    """
    if not enable_safety_checker:
        return {"images": pil_images, "has_nsfw_concepts": [False] * len(pil_images)}
    classify = _load(model)
    found = [_is_unsafe(classify(image.convert("RGB"))) for image in pil_images]
    images = [
        PIL.Image.new("RGB", image.size) if is_unsafe else image
        for image, is_unsafe in zip(pil_images, found, strict=True)
    ]
    return {"images": images, "has_nsfw_concepts": found}


def _is_unsafe(labels: list[dict[str, Any]]) -> bool:
    return any(label["label"] == "nsfw" and label["score"] > _THRESHOLD for label in labels)


@functools.cache
def _load(model: str) -> Any:
    transformers = sys.modules.get("transformers")  # the app has it; importing streamapp must not
    if transformers is None:
        raise RuntimeError("the safety checker needs transformers; import it at the top of the app, or switch it off")
    try:
        return transformers.pipeline("image-classification", model=model)
    except OSError as error:
        raise RuntimeError(f"the safety checker's model {model!r} is not to be had; pass model=<a folder>") from error

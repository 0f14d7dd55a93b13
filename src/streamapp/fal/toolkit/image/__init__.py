"""Describe images as fal does."""

from .image import (
    IMAGE_SIZE_PRESETS,
    Image,
    ImageField,
    ImageFormat,
    ImageSize,
    ImageSizeField,
    ImageSizeInput,
    ImageSizePreset,
    get_image_size,
    read_image_from_url,
)

__all__ = [
    "IMAGE_SIZE_PRESETS",
    "Image",
    "ImageField",
    "ImageFormat",
    "ImageSize",
    "ImageSizeField",
    "ImageSizeInput",
    "ImageSizePreset",
    "get_image_size",
    "read_image_from_url",
]

"""Give apps that were written for `fal.toolkit` what they import, at the same paths below `streamapp.fal.toolkit`.

Files and images here are fal's: descriptions with a `url`. `streamapp.Image` and its kin are encoded bytes, checked
before the inference thread sees them, and are the better choice for new apps.
"""

from .audio import Audio, AudioField
from .compilation import get_gpu_type, load_inductor_cache, sync_inductor_cache, synchronized_inductor_cache
from .constraints import (
    ImageSizeConstraints,
    ImageValidationConfig,
    ImageValidationOptions,
    VideoNormalizationConfig,
    VideoValidationConfig,
    VideoValidationOptions,
    to_xfal,
)
from .exceptions import FalTookitException, FileUploadException, KVStoreException
from .file import CompressedFile, File, FileField
from .image import IMAGE_SIZE_PRESETS, Image, ImageField, ImageSize, ImageSizeField, ImageSizeInput, get_image_size
from .kv import KVStore
from .pydantic import FalBaseModel, Field, Hidden
from .utils import (
    FAL_MODEL_WEIGHTS_DIR,
    FAL_PERSISTENT_DIR,
    FAL_REPOSITORY_DIR,
    DownloadError,
    clone_repository,
    download_file,
    download_model_weights,
)
from .video import Video, VideoField

__all__ = [
    "FAL_MODEL_WEIGHTS_DIR",
    "FAL_PERSISTENT_DIR",
    "FAL_REPOSITORY_DIR",
    "IMAGE_SIZE_PRESETS",
    "Audio",
    "AudioField",
    "CompressedFile",
    "DownloadError",
    "FalBaseModel",
    "FalTookitException",
    "Field",
    "File",
    "FileField",
    "FileUploadException",
    "Hidden",
    "Image",
    "ImageField",
    "ImageSize",
    "ImageSizeConstraints",
    "ImageSizeField",
    "ImageSizeInput",
    "ImageValidationConfig",
    "ImageValidationOptions",
    "KVStore",
    "KVStoreException",
    "Video",
    "VideoField",
    "VideoNormalizationConfig",
    "VideoValidationConfig",
    "VideoValidationOptions",
    "clone_repository",
    "download_file",
    "download_model_weights",
    "get_gpu_type",
    "get_image_size",
    "load_inductor_cache",
    "sync_inductor_cache",
    "synchronized_inductor_cache",
    "to_xfal",
]

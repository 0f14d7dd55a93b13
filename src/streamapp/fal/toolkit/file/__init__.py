"""Describe files as fal does."""

from .file import CompressedFile, File, FileField

__all__ = ["CompressedFile", "File", "FileField"]

"""Name the toolkit's exceptions as fal does, the odd spelling included."""


class FalTookitException(Exception):
    """Be the base of the toolkit's exceptions."""


class FileUploadException(FalTookitException):
    """Say that a file could not be stored."""


class KVStoreException(FalTookitException):
    """Say that the key-value store refused."""

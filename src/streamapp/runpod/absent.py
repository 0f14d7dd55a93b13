"""Say of a name that Runpod's package has, and this one has not, what to do instead."""

from typing import NoReturn

_CLIENTS = {"AsyncioEndpoint", "AsyncioJob", "Endpoint", "api_key", "endpoint_url_base"}
_HERE = "serverless, RunPodLogger, __version__"


def __getattr__(name: str) -> NoReturn:
    """Refuse an attribute that a module of this package has not got; Python calls it with the name."""
    if name in _CLIENTS:
        raise AttributeError(
            f"{name} is for clients of an endpoint, and here is what its handlers import; pip install runpod, import "
            'runpod, and runpod.endpoint_url_base = "http://127.0.0.1:8000/v2"'
        )
    raise AttributeError(
        f"streamapp.runpod has no {name}; it has {_HERE}, and what docs/migrate/runpod.md lists", name=name
    )

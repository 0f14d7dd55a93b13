"""Send fal's own Python client (the package `fal-client`) to a streamapp server.

It has no option for a server without https, but reads these constants at every call.
"""

import os

from fal_client import client


def use(url: str) -> None:
    """Let every function and client of `fal_client` in this process call the server at `url`.

    Call it before the first upload. The key that is sent is STREAMAPP_API_KEY, or else FAL_KEY, or else any.
    """
    url = url.rstrip("/")
    os.environ["FAL_KEY"] = os.environ.get("STREAMAPP_API_KEY") or os.environ.get("FAL_KEY") or "local:local"
    client.RUN_URL_FORMAT = f"{url}/run/"
    client.QUEUE_URL_FORMAT = f"{url}/queue/"
    client.REALTIME_URL_FORMAT = f"ws{url.removeprefix('http')}/run/"
    client.REST_URL = client.CDN_URL = f"{url}/rest"

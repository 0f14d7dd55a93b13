"""Send fal's own Python client (the package `fal-client`) to a streamapp server.

It has no option for a server without https, but reads these constants at every call.
"""

import os
from urllib.parse import urlsplit
from urllib.request import getproxies

from fal_client import client

from .._server import is_on_this_machine


def use(url: str) -> None:
    """Let every function and client of `fal_client` in this process call the server at `url`.

    Call it before the first upload. The key that is sent is STREAMAPP_API_KEY, or else FAL_KEY, or else any. Where the
    environment has a proxy, a server on this machine is excepted from it, in `NO_PROXY`.
    """
    url = url.rstrip("/")
    os.environ["FAL_KEY"] = os.environ.get("STREAMAPP_API_KEY") or os.environ.get("FAL_KEY") or "local:local"
    host, proxies = urlsplit(url).hostname or "", getproxies()
    if proxies and is_on_this_machine(host):
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = f"{host},{proxies.get('no', '')}".rstrip(",")
    client.RUN_URL_FORMAT = f"{url}/run/"
    client.QUEUE_URL_FORMAT = f"{url}/queue/"
    client.REALTIME_URL_FORMAT = f"ws{url.removeprefix('http')}/run/"
    client.REST_URL = client.CDN_URL = f"{url}/rest"

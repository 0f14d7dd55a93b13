"""Say which environment sends fal's own clients to a streamapp server, their packages and the calling script untouched.

Over http the interpreters have to be told to load a shim (shims/): the Python packages always speak https, the
JavaScript one has its hosts written in. Over https fal_client's own variables do, as long as nothing is uploaded.
It sets nothing itself and starts nothing.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ..addresses import is_loopback

SHIMS = Path(__file__).parent / "shims"
# The `fal` package takes no key without a colon.
_NO_KEY = "local:local"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def shim_variables(url: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which Python and node load the shims.

    Args:
        url: the server, http or https.
        environment: what holds already: paths and options are kept, a key of the server's goes before one of fal's.
    """
    return {
        **_proxy_exceptions(urlsplit(url).hostname or "", environment),
        "STREAMAPP_URL": url.rstrip("/"),
        "FAL_KEY": environment.get("STREAMAPP_API_KEY") or environment.get("FAL_KEY") or _NO_KEY,
        "PYTHONPATH": _put_first(str(SHIMS), environment.get("PYTHONPATH", ""), os.pathsep),
        "NODE_OPTIONS": _put_first(
            f"--import={(SHIMS / 'fal.mjs').as_uri()}", environment.get("NODE_OPTIONS", ""), " "
        ),
    }


def tls_variables(address: str, environment: Mapping[str, str], *, bundle: Path, authority: Path) -> dict[str, str]:
    """Return the variables with which untouched clients trust a server with a certificate of ours, and fal's call it.

    Args:
        address: host and port.
        environment: what holds already.
        bundle: the certificates that Python shall trust; node adds `authority` to those that it brings.
    """
    return {
        **_proxy_exceptions(urlsplit(f"//{address}").hostname or "", environment),
        "SSL_CERT_FILE": str(bundle),
        "REQUESTS_CA_BUNDLE": str(bundle),  # `requests` reads no other, and so Runpod's client
        "NODE_EXTRA_CA_CERTS": str(authority),
        "FAL_RUN_HOST": f"{address}/run",
        "FAL_QUEUE_RUN_HOST": f"{address}/queue",
        "FAL_WS_RUN_HOST": f"{address}/ws",
    }


def _proxy_exceptions(host: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what keeps clients from asking a proxy for a server on their own machine; nothing where there is none."""
    has_proxy = any(environment.get(name) for proxy in _PROXIES for name in (proxy, proxy.upper()))
    if not has_proxy or not is_loopback(host):
        return {}
    excepted = environment.get("no_proxy") or environment.get("NO_PROXY", "")
    return dict.fromkeys(("NO_PROXY", "no_proxy"), _put_first(host, excepted, ","))


def _put_first(item: str, others: str, separator: str) -> str:
    return separator.join([item, *(other for other in others.split(separator) if other not in ("", item))])

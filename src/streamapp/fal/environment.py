"""Say which environment sends fal's own clients to a streamapp server, their packages and the calling script untouched.

Over http the interpreters have to be told to load a shim (shims/): the Python packages always speak https, the
JavaScript one has its hosts written in. Over https fal_client's own variables do, as long as nothing is uploaded.
It sets nothing itself and starts nothing.
"""

import os
from collections.abc import Mapping
from pathlib import Path

SHIMS = Path(__file__).parent / "shims"
# The `fal` package takes no key without a colon.
_NO_KEY = "local:local"


def shim_variables(url: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which Python and node load the shims.

    Args:
        url: the server, http or https.
        environment: what holds already: paths and options are kept, a key of the server's goes before one of fal's.
    """
    return {
        "STREAMAPP_URL": url.rstrip("/"),
        "FAL_KEY": environment.get("STREAMAPP_API_KEY") or environment.get("FAL_KEY") or _NO_KEY,
        "PYTHONPATH": _put_first(str(SHIMS), environment.get("PYTHONPATH", ""), os.pathsep),
        "NODE_OPTIONS": _put_first(
            f"--import={(SHIMS / 'fal.mjs').as_uri()}", environment.get("NODE_OPTIONS", ""), " "
        ),
    }


def tls_variables(address: str, *, bundle: Path, authority: Path) -> dict[str, str]:
    """Return the variables with which an untouched fal_client trusts and calls a server with a certificate of ours.

    Args:
        address: host and port.
        bundle: the certificates that Python shall trust; node adds `authority` to those that it brings.
    """
    return {
        "SSL_CERT_FILE": str(bundle),
        "NODE_EXTRA_CA_CERTS": str(authority),
        "FAL_RUN_HOST": f"{address}/run",
        "FAL_QUEUE_RUN_HOST": f"{address}/queue",
    }


def _put_first(item: str, others: str, separator: str) -> str:
    return separator.join([item, *(other for other in others.split(separator) if other not in ("", item))])

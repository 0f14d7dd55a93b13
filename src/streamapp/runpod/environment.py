"""Know what makes a worker of Runpod's, unchanged, take its jobs from a streamapp server: environment variables.

It reads them when it is imported. `$ID` and `$RUNPOD_POD_ID` in the URLs it replaces itself.
"""

import secrets

from .pods import PING_S


def worker_variables(endpoint_id: str, url: str, secret: str) -> dict[str, str]:
    """Return the variables of one worker; the next one needs a `RUNPOD_POD_ID` of its own.

    Args:
        url: the server's, as the worker reaches it.
        secret: what the server has as STREAMAPP_WORKER_SECRET.
    """
    base = f"{url.rstrip('/')}/v2/{endpoint_id}"
    # The worker adds to the query, and takes for granted that there is one.
    return {
        "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=any",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=any",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=any",
        "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID?gpu=any",
        "RUNPOD_PING_INTERVAL": f"{PING_S * 1000:g}",
        "RUNPOD_AI_API_KEY": secret,
        "RUNPOD_ENDPOINT_ID": endpoint_id,
        "RUNPOD_POD_ID": f"worker-{secrets.token_hex(8)}",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }

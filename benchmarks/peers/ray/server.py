"""The workload as a Ray Serve deployment: the same FastAPI routes as the raw peer's, as its ingress.

Ray's own servers listen on every interface, so it is started only where there is none but the loopback.
"""

import signal
import sys
import threading

import ray
from benchmarks.network import is_private
from benchmarks.peers.raw.server import respond
from benchmarks.peers.returning import build
from ray import serve
from ray.serve.schema import LoggingConfig


def main(port: str) -> None:
    """Serve until a signal comes."""
    if not is_private():
        sys.exit("Ray listens on every interface, and this network has more than the loopback")
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    deployment = serve.deployment(
        max_ongoing_requests=10_000,
        graceful_shutdown_timeout_s=2,
        logging_config=LoggingConfig(enable_access_log=False, log_level="ERROR"),
    )
    serve.run(deployment(serve.ingress(lambda: build(respond))(Workload)).bind())
    ended.wait()
    serve.shutdown()
    ray.shutdown()


class Workload:
    """Hold the routes."""


if __name__ == "__main__":
    main(sys.argv[1])

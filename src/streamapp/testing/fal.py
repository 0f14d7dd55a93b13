"""Call an app's endpoints as methods, over a server that runs in this process: `fal.app.AppClient`, for tests.

    with AppClient.connect(Painter) as client:
        output = client.generate(Input(prompt="a red circle"))

It covers endpoints that answer once; `streamapp.testing.TestClient` has streams as well, and needs no socket.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import httpx
from anyio.from_thread import start_blocking_portal
from pydantic import BaseModel, TypeAdapter

from ..app import App
from ..endpoint import EndpointSpec
from ..errors import SetupFailed
from ..fal.exceptions import FalServerlessException
from ..serve.build import compile_app
from ..serve.server import Server, bind
from ..settings import Settings

if TYPE_CHECKING:
    from concurrent.futures import Future

# The environment of whoever runs the tests does not count, and nothing is waited for at the end.
_SETTINGS = Settings.model_construct(drain_s=0.0)


@dataclass(eq=False)
class AppClientError(FalServerlessException):
    """Tell what the app answered instead of a result."""

    message: str
    status_code: int
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.message)


class AppClient:
    """Call an app at a URL; each endpoint that answers once is a method that takes a model or a dict.

    Args:
        timeout: seconds for one call; without limit when None.
    """

    def __init__(self, cls: type[App], url: str, timeout: float | None = None) -> None:
        self.url = url
        self.application = f"local/{cls.app_name}"
        self._timeout = timeout
        self._endpoints = {spec.name: spec for spec in cls.endpoints() if spec.kind == "value"}

    @classmethod
    @contextmanager
    def connect(
        cls,
        app_cls: type[App],
        *,
        health_request_timeout: float = 30,
        startup_timeout: float = 60,
        health_check_interval: float = 0.5,
    ) -> Iterator[Self]:
        """Serve an app on a free port of this machine until the block ends.

        Args:
            startup_timeout: seconds that `setup` may take; the other two are without effect, as nothing is polled.
        Raises:
            AppClientError: the app's `setup` failed or took too long.
        """
        app = compile_app(app_cls, settings=_SETTINGS)
        with bind("127.0.0.1", 0) as listener, start_blocking_portal() as portal:
            server = Server(app)
            serving = portal.start_task_soon(server.serve, [listener])
            try:
                _wait_until_ready(app.state.runtime.served[0].ready, startup_timeout)
                yield cls(app_cls, f"http://127.0.0.1:{listener.getsockname()[1]}")
            finally:
                server.should_exit = True
                serving.result()

    def health(self) -> Any:
        """Return what the app says of its health."""
        response = httpx.get(f"{self.url}/_streamapp/health", timeout=self._timeout, trust_env=False)
        return response.raise_for_status().json()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return an endpoint as a function."""
        if name not in self._endpoints:
            raise AttributeError(f"the app has no endpoint {name!r} that answers once; it has {[*self._endpoints]}")
        return partial(self._call, self._endpoints[name])

    def _call(self, spec: EndpointSpec, data: BaseModel | Mapping[str, Any]) -> Any:
        url = self.url + spec.path
        body = data.model_dump(mode="json") if isinstance(data, BaseModel) else dict(data)
        response = httpx.post(url, json=body, timeout=self._timeout, trust_env=False)
        if not response.is_success:
            shown = f"Failed to POST {url}: {response.status_code} {response.text}"
            raise AppClientError(shown, response.status_code, response.headers)
        return TypeAdapter(spec.item_type).validate_python(response.json())


def _wait_until_ready(ready: "Future[None]", timeout_s: float) -> None:
    try:
        ready.result(timeout_s)
    except SetupFailed as error:
        raise AppClientError(error.message, error.status_code) from error
    except TimeoutError:
        raise AppClientError(f"the app's setup took longer than {timeout_s:g} s", 500) from None

"""OpenAI's own Python client against an app in this process: no socket, and its answers come as they are sent."""

from collections.abc import Iterator

import httpx
import httpx2
import openai
from tests.waiting import WAIT_S

from streamapp.testing import TestClient


def openai_of(client: TestClient) -> openai.OpenAI:
    """Return the client for what a `TestClient` runs."""
    http = httpx2.Client(transport=_Transport(client.http))
    return openai.OpenAI(
        base_url="http://testserver/v1", api_key="none", max_retries=0, timeout=WAIT_S, http_client=http
    )


class _Transport(httpx2.BaseTransport):
    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = request.headers.multi_items()
        asked = self._http.build_request(request.method, str(request.url), headers=headers, content=request.read())
        answer = self._http.send(asked, stream=True)
        return httpx2.Response(answer.status_code, headers=answer.headers.multi_items(), stream=_Body(answer))


class _Body(httpx2.SyncByteStream):
    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._answer.iter_raw()
        except httpx.RemoteProtocolError as error:
            raise httpx2.RemoteProtocolError(str(error)) from None

    def close(self) -> None:
        self._answer.close()

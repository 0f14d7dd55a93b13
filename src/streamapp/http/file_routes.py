"""Serve the file store at `/files`: what is there is read, in ranges too, and what was begun is uploaded.

An upload is begun by whoever gives out its URL, a face's storage routes; its body goes to the disk as it comes. Who
knows the URL of a file may read it.
"""

import re
import time
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from ..errors import MalformedRequest
from ..jsontext import read_json
from ..process.threads import in_pool
from ..runtime import Runtime
from ..stores.files import FileStore, Stored
from .call import caller_in
from .response import INERT_HEADERS
from .route import LaterRoute
from .routes import base_url

# What a browser may show; the rest, HTML and SVG above all, it has to download.
_SHOWN = re.compile(r"(image/(png|jpeg|webp|gif|avif)|audio/.*|video/.*)", re.IGNORECASE)


def add_file_routes(api: FastAPI, runtime: Runtime) -> None:
    """Serve files, and take the bodies of uploads."""
    files = runtime.files

    async def read(request: Request, file_id: str, name: str = "") -> Response:
        return _file_response(await in_pool(files.get, file_id), request.headers.get("if-none-match", ""))

    async def put(request: Request, file_id: str, name: str, upload: str = "") -> Response:
        stored = await begun(request, file_id, upload)
        etag = await receive_part(request, files, stored, 1)
        await in_pool(files.complete, stored.id, upload, [1])
        return JSONResponse({"file_url": base_url(request) + stored.url_path}, headers={"ETag": etag})

    async def put_part(request: Request, file_id: str, name: str, key: str, number: int) -> Response:
        etag = await receive_part(request, files, await begun(request, file_id, key), number)
        return JSONResponse({"partNumber": number, "etag": etag}, headers={"ETag": etag})

    async def complete(request: Request, file_id: str, name: str, key: str) -> Response:
        await begun(request, file_id, key)
        numbers = _part_numbers(await json_object(request))
        stored = await in_pool(files.complete, file_id, key, numbers)
        return JSONResponse({"access_url": base_url(request) + stored.url_path})

    async def begun(request: Request, file_id: str, key: str) -> Stored:
        return await in_pool(files.upload, file_id, key, caller=caller_in(request.scope))

    file_path = "/files/{file_id}/{name}"
    for path, route, methods in (
        ("/files/{file_id}", read, ["GET", "HEAD"]),
        (file_path, read, ["GET", "HEAD"]),
        (file_path, put, ["PUT"]),
        (file_path + "/multipart/{key}/complete", complete, ["POST"]),
        (file_path + "/multipart/{key}/{number}", put_part, ["PUT"]),
    ):
        api.router.routes.append(LaterRoute(path, route, methods=methods, include_in_schema=False))


def _file_response(stored: Stored, known_etags: str) -> Response:
    etag = f'"{stored.id}"'
    headers = {
        "ETag": etag,
        "Cache-Control": f"private, immutable, max-age={max(0, int(stored.expires_at - time.time()))}",
        **INERT_HEADERS,
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    if etag in known_etags:
        return Response(status_code=304, headers=headers)
    return FileResponse(
        stored.path,
        headers=headers,
        media_type=stored.content_type,
        filename=stored.name,
        content_disposition_type="inline" if _SHOWN.fullmatch(stored.content_type) else "attachment",
    )


def _part_numbers(body: dict[str, Any]) -> list[int]:
    parts = body.get("parts")
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise MalformedRequest('expected {"parts": [{"partNumber": 1, "etag": ...}, ...]}')
    numbers = [part.get("partNumber") for part in parts]
    if not all(isinstance(number, int) for number in numbers):
        raise MalformedRequest("expected each part with its partNumber")
    return numbers


async def receive_part(request: Request, files: FileStore, stored: Stored, number: int) -> str:
    """Write the body into a part of an upload; return its ETag."""
    part = await in_pool(files.open_part, stored.id, stored.key, number)
    try:
        async for chunk in request.stream():
            await in_pool(part.write, chunk)
        await in_pool(files.end_part, stored, number, part)
    except BaseException:  # whatever ends it, a cancel too: what came so far must not stay in the quota
        await in_pool(part.discard)
        raise
    return part.etag


async def json_object(request: Request) -> dict[str, Any]:
    """Read a body.

    Raises:
        MalformedRequest: it is no JSON object.
    """
    try:
        body = await read_json(await request.body())
    except ValueError as error:
        raise MalformedRequest(f"expected a JSON object: {error}") from None
    if not isinstance(body, dict):
        raise MalformedRequest(f"expected a JSON object, got {type(body).__name__}")
    return body

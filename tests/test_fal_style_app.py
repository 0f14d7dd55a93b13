"""An app written for fal, with its import changed: what its callers get."""

from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import pytest

import streamapp.fal as fal
from streamapp.fal.toolkit import Image
from streamapp.loading import load_app
from streamapp.testing import TestClient
from streamapp.testing.fal import AppClient, AppClientError

FALS = {"User-Agent": "fal-client/1.0.3 (python)"}
Painter = load_app(str(Path(__file__).parent / "apps" / "fal_style.py"))


@pytest.fixture(scope="module")
def client() -> Iterator[AppClient]:
    with AppClient.connect(Painter) as client:
        yield client


@pytest.fixture(scope="module")
def http() -> Iterator[TestClient]:
    with TestClient(Painter) as client:
        yield client


def test_images_of_the_toolkit_come_out(client: AppClient) -> None:
    output = client.text_to_image({"prompt": "red", "image_size": "portrait_4_3", "num_images": 2})
    assert [(image.width, image.height) for image in output.images] == [(768, 1024)] * 2
    assert output.images[0].to_pil().getpixel((0, 0)) == (255, 0, 0)


def test_an_image_that_came_out_goes_in_again(client: AppClient) -> None:
    red = client.text_to_image({"prompt": "red", "image_size": {"width": 8, "height": 8}})
    blurred = client.blur({"image": red.images[0].model_dump()}).images[0]
    assert (blurred.content_type, blurred.width) == ("image/jpeg", 8)


def test_a_large_image_that_came_out_as_a_url_goes_in_again(client: AppClient) -> None:
    noise = client.text_to_image({"prompt": "noise", "image_size": {"width": 1536, "height": 1536}}).images[0]
    assert noise.url.startswith(f"{client.url}/files/")
    assert client.blur({"image": noise.model_dump()}).images[0].width == 1536


def test_a_field_exception_names_the_field_and_what_is_billed(http: TestClient) -> None:
    answer = http.post("/", json={"prompt": "pink"})
    assert (answer.status_code, answer.headers["x-fal-billable-units"]) == (422, "0.50000000")
    assert answer.json()["detail"] == [
        {"loc": ["body", "prompt"], "msg": "paint one of red, green, blue", "type": "value_error"}
    ]


def test_a_header_that_the_endpoint_sets_comes_along(http: TestClient) -> None:
    answer = http.post("/", json={"prompt": "blue", "num_images": 3})
    assert (answer.status_code, answer.headers["x-fal-billable-units"]) == (200, "3")


def test_input_that_the_model_refuses_is_not_billed(http: TestClient) -> None:
    answer = http.post("/", json={"prompt": "red", "num_images": 9}, headers=FALS)
    assert (answer.status_code, answer.headers["x-fal-billable-units"]) == (422, "0")
    assert answer.json()["detail"][0]["loc"] == ["body", "num_images"]


def test_an_image_that_is_none_is_the_callers_fault(client: AppClient) -> None:
    with pytest.raises(AppClientError, match="expected a PNG, JPEG, WebP or GIF image") as caught:
        client.blur({"image": "data:,hello"})
    assert caught.value.status_code == 422


def test_an_async_endpoint_reads_its_request(http: TestClient) -> None:
    image = Image(url="data:,x").model_dump()
    answer = http.post("/caption", json={"image": image}, headers=FALS)
    assert answer.json() == {"text": "data:", "request_id": answer.headers["x-fal-request-id"]}


def test_the_openapi_document_tells_what_an_image_is(http: TestClient) -> None:
    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["Image"]["ui"] == {"field": "image"}


def test_what_apps_name_by_fal_itself_is_there() -> None:
    names = ("App", "endpoint", "cached", "HealthCheck", "RetryConfig", "ContainerImage")
    below = ("toolkit.Image", "toolkit.File", "exceptions.FieldException", "container.ContainerImage")
    assert all(callable(attrgetter(name)(fal)) for name in (*names, *below))

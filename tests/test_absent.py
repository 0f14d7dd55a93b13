"""What of Runpod's package is not here says what to do instead."""

import pytest

from streamapp import runpod


@pytest.mark.parametrize("name", ["Endpoint", "AsyncioEndpoint", "endpoint_url_base"])
def test_the_clients_names_say_where_the_clients_are(name: str) -> None:
    with pytest.raises(AttributeError, match=f"{name} is for clients of an endpoint.*; pip install runpod"):
        getattr(runpod, name)


def test_another_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match="streamapp.runpod has no create_pod; it has serverless, RunPodLogger"):
        _ = runpod.create_pod  # type: ignore[attr-defined]
    assert not hasattr(runpod, "get_gpus")

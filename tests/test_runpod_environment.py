"""The environment of a worker of Runpod's."""

from streamapp.runpod.environment import worker_variables


def test_the_urls_have_what_the_worker_replaces_and_a_query_that_it_adds_to() -> None:
    variables = worker_variables("sdxl", "http://a.example:8000/", "s3cret")
    base = "http://a.example:8000/v2/sdxl"
    assert {name.removeprefix("RUNPOD_WEBHOOK_"): url for name, url in variables.items() if "WEBHOOK" in name} == {
        "GET_JOB": f"{base}/job-take/$ID?gpu=any",
        "POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=any",
        "POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=any",
        "PING": f"{base}/ping/$RUNPOD_POD_ID?gpu=any",
    }
    assert (variables["RUNPOD_AI_API_KEY"], variables["RUNPOD_PING_INTERVAL"]) == ("s3cret", "10000")


def test_each_worker_has_an_id_of_its_own() -> None:
    ids = {worker_variables("sdxl", "http://a.example", "s3cret")["RUNPOD_POD_ID"] for _ in range(2)}
    assert len(ids) == 2

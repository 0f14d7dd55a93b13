"""The app that builds solids: its words, shapes, cells and meshes, and what it streams."""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamapp.testing import TestClient
from streamapp_client import Cancelled, Event, InvalidInput

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.voxels.app import SceneInput, Voxels
from apps.voxels.mesh import Mesh, cubes, glb, mesh_of
from apps.voxels.refine import CORNERS, Growth, places, refine
from apps.voxels.shapes import Shape
from apps.voxels.words import COLOURS, FORMS, PLACES, SIZES, SOLIDS, scene_of

EXAMPLES = SceneInput.model_fields["scene"].examples or []
PARTS = st.tuples(st.sampled_from([*FORMS, *SIZES, *COLOURS, *PLACES]), st.sampled_from([*SOLIDS])).map(" ".join)
SCENES = st.tuples(PARTS, st.sampled_from("+-&"), PARTS).map(" ".join)


def grown(text: str, resolution: int = 32, **options: Any) -> tuple[Growth, Shape]:
    """Return all of a scene."""
    shape = scene_of(text, **options)
    *_, last = refine(shape, resolution)
    return last, shape


def meshed(text: str, resolution: int = 32, **options: Any) -> Mesh:
    return mesh_of(*grown(text, resolution, **options))


def is_closed(mesh: Mesh) -> bool:
    """Say whether each side of a triangle is, the other way round, that of another."""
    sides = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    return sorted(sides.tolist()) == sorted(sides[:, ::-1].tolist())


# Words


@pytest.mark.parametrize("text", [*SOLIDS, *EXAMPLES, *(f"{form} box" for form in FORMS), "((ball))", "A Red BALL."])
def test_what_the_words_say_is_closed_and_has_its_outside_outwards(text: str) -> None:
    mesh = meshed(text, blend=0.15)
    assert is_closed(mesh)
    assert mesh.volume > 0
    assert mesh.faces.max() < len(mesh.positions)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a solid, one of sphere"),
        ("a red twisted", "got red twisted"),
        ("a dragon", 'no word for "dragon"'),
        ("a gren bal", 'no word for "gren"; did you mean green'),
        ("a house", "solids are sphere, box"),
        ("sphere \N{SNOWMAN}", 'no word for "\N{SNOWMAN}"'),
        ("__import__('os')", 'no word for "_"'),
        ("sphere box", r'expected \+, - or & between two solids; got "box"'),
        ("sphere +", "expected a solid"),
        ("(sphere", r'expected "\)"'),
        ("sphere)", r'expected \+, - or &; got "\)"'),
        ("sphere at 1 2", 'expected three numbers after "at"'),
        ("sphere at - - 1", 'expected three numbers after "at"'),
        ("sphere at nan inf 0", 'expected three numbers after "at"'),
        ("sphere at \N{ARABIC-INDIC DIGIT ONE} 0 0", 'expected three numbers after "at"'),
        ("sphere at 1e308 0 0", 'expected three numbers after "at"'),
        (f"sphere at {'9' * 400} 0 0", "expected numbers from -3 to 3; got inf"),
        ("sphere at 0 -3.01 0", "expected numbers from -3 to 3; got 3.01"),
        ("huge huge huge sphere", "expected a size of 0.1 to 4 times; got 8"),
        ("twisted bumpy twisted bumpy flat box", "expected at most 4 forms"),
        ("(((((sphere)))))", "expected at most 4 brackets"),
        (" + ".join(["box"] * 17), "expected at most 16 parts"),
    ],
)
def test_words_that_do_not_follow_the_rule_are_told(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scene_of(text)


def test_what_stands_between_words_does_not_count() -> None:
    plain = meshed("red ball at 0.5 0 -1 - box at .5 .2 0", 16)
    assert meshed("Red ball, at 0.5, 0, -1; - box at .5, .2, 0!", 16).positions.tolist() == plain.positions.tolist()


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_other_text_is_told_too(text: str) -> None:
    try:
        scene_of(text)
    except ValueError as error:
        assert str(error)


def test_the_same_seed_gives_the_same_solid_and_another_one_another() -> None:
    one, same, other = (glb(meshed("bumpy sphere + box", seed=seed), is_smooth=True) for seed in (1, 1, 2))
    assert one == same != other


def test_a_place_a_size_and_a_number_move_what_they_should() -> None:
    mesh = meshed("small ball at 1 -2 0.5 above", 64)
    assert mesh.positions.mean(axis=0) == pytest.approx([1, -1.4, 0.5], abs=0.01)
    assert np.ptp(mesh.positions, axis=0) == pytest.approx([0.6] * 3, abs=0.02)


# Cells


@settings(max_examples=30, deadline=None)
@example("twisted sphere - left diamond", 0)
@given(SCENES, st.sampled_from([0, 0.3]))
def test_the_cells_that_are_left_out_hold_nothing_of_the_surface(text: str, blend: float) -> None:
    shape = scene_of(text, blend=blend)
    last = Growth(0, (), np.zeros(3), 1, 0) if shape.is_nothing else [*refine(shape, 32)][-1]  # type: ignore[arg-type]
    at = np.argwhere(np.ones((32, 32, 32)))
    corners = places((at[:, None] + CORNERS).reshape(-1, 3), 32, last.low, last.width)
    inside = shape.distance(corners).reshape(-1, 8) < 0
    is_crossed = inside.any(axis=1) & ~inside.all(axis=1)
    found = last.layers[0].at.tolist() if last.layers else []
    assert sorted(found) == at[is_crossed].tolist()


def test_few_of_all_cells_are_looked_at() -> None:
    assert grown("sphere", 64)[0].looked_at < 64**3 / 4


@pytest.mark.parametrize("text", ["sphere - big sphere", "box & box at 3 0 0", "sphere & big box - big sphere"])
def test_of_nothing_there_is_nothing(text: str) -> None:
    assert sum(len(growth.layers[0].at) for growth in refine(scene_of(text), 16)) == 0


def test_what_is_not_refined_yet_is_shown_coarse_so_that_the_whole_is_there_all_along() -> None:
    shape = scene_of("sphere")
    growths = [growth for growth in refine(shape, 64) if growth.layers[0].side > 8]
    heights = [np.ptp(mesh_of(growth, shape).positions[:, 1]) for growth in growths]
    assert heights == pytest.approx([1] * len(growths), abs=0.05)
    done = [growth.done for growth in growths]
    assert done == sorted(done)
    assert done[-1] == 1


# Meshes


def test_a_ball_comes_nearer_to_its_volume_and_area_with_each_level() -> None:
    meshes = [meshed("sphere", resolution) for resolution in (16, 32, 64)]
    errors = [abs(mesh.volume - np.pi / 6) + abs(mesh.area - np.pi) for mesh in meshes]
    assert errors[2] < errors[1] / 3 < errors[0] / 9
    assert meshes[2].volume == pytest.approx(np.pi / 6, rel=0.01)


def test_normals_are_those_of_the_solid() -> None:
    mesh = meshed("sphere")
    outward = mesh.positions / np.linalg.norm(mesh.positions, axis=1, keepdims=True)
    assert (mesh.normals * outward).sum(axis=1).min() > 0.99


@settings(max_examples=30, deadline=None)
@given(SCENES)
def test_any_mesh_is_closed(text: str) -> None:
    shape = scene_of(text, blend=0.2)
    for growth in [*refine(shape, 16)][-1:]:
        assert is_closed(mesh_of(growth, shape))


def test_where_two_solids_meet_their_colours_flow_into_each_other() -> None:
    colours = meshed("red ball left + blue ball right", blend=0.5).colours
    assert {tuple(colour) for colour in colours[[0, -1]]} <= {tuple(colour) for colour in colours}
    assert len(np.unique(colours.round(2), axis=0)) > 5
    assert len(np.unique(meshed("red ball left + blue ball right").colours, axis=0)) == 2


def parts_of(data: bytes) -> tuple[dict[str, Any], list[np.ndarray[Any, Any]]]:
    """Take a binary glTF apart, by what the format says: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html"""
    magic, version, size, length, kind = struct.unpack_from("<4sIII4s", data)
    assert (magic, version, size, kind, length % 4) == (b"glTF", 2, len(data), b"JSON", 0)
    document = json.loads(data[20 : 20 + length])
    binary = data[28 + length :]
    assert struct.unpack_from("<I4s", data, 20 + length) == (len(binary), b"BIN\0")
    arrays = []
    for accessor in document["accessors"]:
        view = document["bufferViews"][accessor["bufferView"]]
        kind = {5121: "u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}[accessor["componentType"]]
        array = np.frombuffer(binary[view["byteOffset"] :][: view["byteLength"]], kind)
        arrays.append(array.reshape(accessor["count"], -1))
        assert view["byteOffset"] % 4 == 0
    return document, arrays


@pytest.mark.parametrize(("resolution", "index"), [(16, 5123), (128, 5125)])
def test_a_file_has_what_the_mesh_has(resolution: int, index: int) -> None:
    mesh = meshed("red sphere", resolution)
    document, (positions, colours, normals, faces) = parts_of(glb(mesh, is_smooth=True))
    assert (positions == mesh.positions.astype(np.float32)).all()
    assert (faces.reshape(-1, 3) == mesh.faces).all()
    assert normals.shape == positions.shape
    assert colours[0].tolist() == [171, 15, 13, 255]  # as light
    first, *_, last = document["accessors"]
    assert (first["min"], first["max"]) == (positions.min(axis=0).tolist(), positions.max(axis=0).tolist())
    assert last["componentType"] == index


def test_a_preview_is_smaller_as_it_has_no_normals() -> None:
    mesh = meshed("sphere")
    document, arrays = parts_of(glb(mesh, is_smooth=False))
    assert document["meshes"][0]["primitives"][0]["attributes"] == {"POSITION": 0, "COLOR_0": 1}
    assert len(arrays) == 3


def test_cubes_are_counted_in_cells_of_the_finest_level() -> None:
    shape = scene_of("blue box")
    first, *_, last = refine(shape, 32)
    coarse, fine = cubes(first, shape, 32), cubes(last, shape, 32)
    assert set(coarse["sizes"]) == {4}
    assert set(fine["sizes"]) == {1}
    assert coarse["positions"][0] == [1.5, 1.5, 1.5]
    assert np.array(fine["positions"]).min(axis=0).tolist() == [0, 0, 0]
    assert np.array(fine["positions"]).max(axis=0).tolist() == [31, 31, 31]
    assert fine["colors"][0] == list(COLOURS["blue"])


# The app


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(Voxels) as client:
        yield client


def stream(client: TestClient, **input: Any) -> list[Event]:
    return list(client.stream("/stream", {"scene": "sphere", "resolution": 32, "pause_s": 0.02, **input}))


def of(events: list[Event], name: str) -> list[Any]:
    return [event.data for event in events if event.name == name]


def test_a_stream_shows_cubes_then_meshes_and_ends_with_the_file(client: TestClient) -> None:
    events = stream(client)
    first, *others = [preview["shape"] for preview in of(events, "preview")]
    assert first.keys() == {"positions", "colors", "sizes"}
    assert {shape["content_type"] for shape in others} == {"model/gltf-binary"}
    result = events[-1].data
    assert result["shape"]["file_name"] == "final.glb"
    assert result["statistics"]["volume"] == pytest.approx(np.pi / 6, rel=0.02)
    assert of(events, "progress")[-1] == {"step": 100, "total": 100, "message": "32 cells wide"}


def test_voxels_are_cubes_to_the_end(client: TestClient) -> None:
    events = stream(client, output="voxels")
    assert all("positions" in preview["shape"] for preview in of(events, "preview"))
    result = events[-1].data
    assert len(result["shape"]["positions"]) == len(result["shape"]["sizes"]) == result["statistics"]["cells"]


def test_event_source_gives_its_input_in_the_query(client: TestClient) -> None:
    answer = client.http.get("/stream?scene=sphere&resolution=16&output=voxels&pause_s=0")
    assert answer.text.rstrip().endswith('"status":"succeeded"}')


def test_curl_gets_the_bare_file(client: TestClient) -> None:
    answer = client.http.post("/stream", json={"scene": "sphere"}, headers={"Accept": "model/gltf-binary"})
    assert answer.headers["content-type"] == "model/gltf-binary"
    assert parts_of(answer.content)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"scene": scene} for scene in ("", "dragon", "x" * 301, None, 7)),
        *({"resolution": resolution} for resolution in (0, 8, 48, 256, "64")),
        *({"blend": blend} for blend in (-0.1, 0.6, "NaN", 1e308)),
        *({"pause_s": 2}, {"seed": -1}, {"output": "points"}, {"output": "voxels", "resolution": 128}),
    ],
    ids=repr,
)
def test_an_input_beyond_its_bounds_is_refused(client: TestClient, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        stream(client, **wrong)


@pytest.mark.parametrize("scene", ["sphere - big sphere", "sphere - sphere"], ids=["at once", "after a level"])
def test_a_scene_of_nothing_is_refused_in_words(client: TestClient, scene: str) -> None:
    with pytest.raises(InvalidInput, match=f"nothing is left of '{scene}'"):
        stream(client, scene=scene)


def test_a_cancel_ends_it_within_a_level(client: TestClient) -> None:
    with client.stream("/stream", {"scene": "sphere", "resolution": 128, "pause_s": 0.5}) as events:
        assert next(events).name == "progress"
        client.http.post(f"/jobs/{events.job_id}/cancel").raise_for_status()
        with pytest.raises(Cancelled):
            list(events)
    assert stream(client)[-1].name == "output"  # the next one has its turn


def test_nothing_is_drawn_that_nobody_looks_at(client: TestClient) -> None:
    answer = client.http.post("/", json={"scene": "sphere", "pause_s": 1}, headers={"Accept": "application/json"})
    assert answer.json()["shape"]["file_name"] == "final.glb"
    events = client.http.get(f"/jobs/{answer.headers['x-streamapp-job-id']}/events?_events=named").text
    assert "event: progress" in events
    assert "event: preview" not in events

"""The chat: rooms, with a model as a member of each; and the clients of Chutes' guide."""

import asyncio
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse, WebSocketTestSession
from tests.at_work import Gate
from tests.documents import GUIDE, chatting_client
from tests.fal_packages import needs, needs_node
from tests.processes import read_until
from tests.processes import serving as serving_app
from tests.served import runtime_of, serving
from tests.waiting import WAIT_S, until

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.chat.app import ChatRooms
from apps.chat.model import RuleBased, Turn

ROOT = Path(__file__).parent.parent
needs_aiohttp = needs(importlib.util.find_spec("aiohttp") is not None, "aiohttp is missing; run `make install`")
ANN, BEN = "a" * 32, "b" * 32


class Scripted:
    """A model that says back what it was given, when the test lets it."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.given: list[list[Turn]] = []
        self.closed = 0

    def answer(self, messages: Sequence[Turn]) -> Iterator[str]:
        self.given.append([*messages])
        try:
            for word in f"You said: {messages[-1].content}".split(" "):
                yield f"{word} "
                self.gate()
        finally:
            self.closed += 1


class Chat(ChatRooms):
    def setup(self) -> None:
        super().setup()
        self.model = self.scripted = Scripted()


@pytest.fixture(autouse=True)
def rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load no language model."""
    monkeypatch.setenv("STREAMAPP_CHAT_MODEL", "rules")


@pytest.fixture
def app() -> Chat:
    return Chat()


@pytest.fixture
def scripted(app: Chat, client: TestClient) -> Scripted:
    return app.scripted


@pytest.fixture
def client(app: Chat) -> Iterator[TestClient]:
    with serving(app) as client:
        client.get("/ready")
        yield client
        app.scripted.gate.opened.set()


class Member:
    """Somebody in a room."""

    def __init__(self, socket: WebSocketTestSession) -> None:
        self.socket = socket
        self.welcome = socket.receive_json()
        assert self.welcome["type"] == "system"

    def say(self, text: str) -> None:
        self.send(type="user_message", message=text)

    def send(self, **said: Any) -> None:
        self.socket.send_json(said)

    def hear(self) -> Any:
        return self.socket.receive_json()

    def until(self, kind: str) -> Any:
        """Return the next message of a type."""
        while (heard := self.hear())["type"] != kind:
            pass
        return heard


@pytest.fixture
def join(client: TestClient) -> Iterator[Any]:
    with ExitStack() as stack:

        def join(name: str = "Ann", *, room: str = "lobby", **query: str) -> Member:
            asked = client.websocket_connect(f"/chat/{room}", params={"name": name, **query})
            return Member(stack.enter_context(asked))

        yield join


def test_who_joins_hears_who_it_is_and_who_is_there(join: Any) -> None:
    ann, ben = join("Ann"), join("Ben")
    assert (ann.welcome["you"]["name"], ann.welcome["members"]) == ("Ann", [ann.welcome["you"]])
    assert ben.welcome["members"] == [ann.welcome["you"], ben.welcome["you"]]
    assert ann.hear() == {"type": "joined", "member": ben.welcome["you"]}


def test_two_of_one_name_are_two_people(join: Any) -> None:
    assert join("Ann").welcome["you"]["id"] != join("Ann").welcome["you"]["id"]


def test_who_comes_back_with_its_key_is_the_same_in_that_room_alone(join: Any) -> None:
    ids = [join("Ann", key=ANN, room=room).welcome["you"]["id"] for room in ("one", "one", "two")]
    assert ids[0] == ids[1] != ids[2]
    assert ANN not in ids


def test_two_sockets_of_one_person_come_and_go_as_one(join: Any, client: TestClient) -> None:
    ann = join("Ann")
    with client.websocket_connect(f"/chat/lobby?name=Ben&key={BEN}"):
        with client.websocket_connect(f"/chat/lobby?name=Ben&key={BEN}"):
            pass
        assert ann.hear()["type"] == "joined"
        ann.send(type="ping")
        assert ann.hear()["type"] == "pong"
    assert ann.hear()["type"] == "left"


def test_a_new_name_is_told(join: Any) -> None:
    ann, _, _ = join("Ann"), join("Ben", key=BEN), join("Bob", key=BEN)
    assert [ann.hear()["member"]["name"] for _ in range(2)] == ["Ben", "Bob"]


def test_what_one_says_all_hear_with_its_author(join: Any) -> None:
    ann, ben = join("Ann"), join("Ben")
    ann.until("joined")
    ben.say("hello")
    heard = ann.hear()
    assert (heard["content"], heard["author"], heard["type"]) == ("hello", ben.welcome["you"], "user_message")
    assert ben.hear() == heard


def test_others_see_who_types(join: Any) -> None:
    ann, ben = join("Ann"), join("Ben")
    ben.send(type="typing", typing=True)
    assert ann.until("user_typing") == {"type": "user_typing", "id": ben.welcome["you"]["id"], "typing": True}
    ben.send(type="ping")
    assert ben.hear()["type"] == "pong"


def test_an_answer_comes_piece_by_piece_and_then_whole(join: Any, scripted: Scripted) -> None:
    scripted.gate.opened.set()
    ann = join("Ann")
    ann.say("hi")
    heard = [ann.hear() for _ in range(7)]
    assert [each["type"] for each in heard[:2]] == ["user_message", "ai_typing"]
    id = heard[2]["id"]
    pieces = [
        {"type": "ai_message_partial", "id": id, "seq": n + 1, "token": token}
        for n, token in enumerate(("You ", "said: ", "hi "))
    ]
    assert heard[2:5] == pieces
    assert heard[5] == {"type": "ai_typing", "typing": False, "id": id}
    assert (heard[6]["type"], heard[6]["content"], heard[6]["state"]) == (
        "ai_message_complete",
        "You said: hi ",
        "whole",
    )


def test_in_a_room_of_several_the_model_answers_who_mentions_it(join: Any, scripted: Scripted) -> None:
    scripted.gate.opened.set()
    ann, _ = join("Ann"), join("Ben")
    for text in ("hi Ben", "ann@eliza.org", "@elizabeth", "hi @eliza"):
        ann.say(text)
    assert ann.until("ai_message_complete")["content"] == "You said: hi @eliza "
    assert len(scripted.given) == 1


def test_in_a_room_of_several_it_answers_all_where_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_CHAT_ANSWERS", "always")
    with serving(Chat()) as client, client.websocket_connect("/chat/a") as one, client.websocket_connect("/chat/a"):
        ann = Member(one)
        ann.say("hi")
        assert ann.until("ai_typing")["typing"]


def test_the_model_is_given_what_was_said_before(join: Any, scripted: Scripted) -> None:
    scripted.gate.opened.set()
    ann = join("Ann")
    for text in ("one", "two"):
        ann.say(text)
        ann.until("ai_message_complete")
    turns = [(turn.role, turn.name, turn.content) for turn in scripted.given[1]]
    assert turns == [("user", "Ann", "one"), ("assistant", "", "You said: one "), ("user", "Ann", "two")]


def test_what_is_said_during_an_answer_is_for_the_next_one(join: Any, scripted: Scripted) -> None:
    ann = join("Ann")
    ann.say("one")
    scripted.gate.wait()
    ann.say("two")
    ann.say("three")
    ann.send(type="ping")
    ann.until("pong")
    scripted.gate.opened.set()
    assert ann.until("ai_message_complete")["content"] == "You said: one "
    assert ann.until("ai_message_complete")["content"] == "You said: three "
    assert [turn.content for turn in scripted.given[1]] == ["one", "You said: one ", "two", "three"]


def test_anybody_in_the_room_stops_an_answer(join: Any, scripted: Scripted) -> None:
    ann, ben = join("Ann"), join("Ben")
    ann.say("@Eliza hi")
    scripted.gate.wait()
    ben.send(type="cancel")
    stopped = ann.until("ai_message_complete")
    assert (stopped["state"], stopped["content"]) == ("stopped", "You ")
    scripted.gate.opened.set()
    until(lambda: scripted.closed == 1)
    ann.say("@Eliza again")
    assert ann.until("ai_message_complete")["state"] == "whole"


def test_an_answer_that_has_not_begun_is_stopped_as_well(join: Any, scripted: Scripted) -> None:
    ann, ben = join("Ann", room="one"), join("Ben", room="two")
    ann.say("hi")
    scripted.gate.wait()
    ben.say("hi")
    ben.send(type="cancel")
    assert ben.until("ai_message_complete")["state"] == "stopped"
    ben.send(type="cancel")
    ben.send(type="ping")
    assert ben.hear()["type"] == "pong"


def test_who_stops_an_answer_too_late_stops_no_later_one(join: Any, scripted: Scripted) -> None:
    ann = join("Ann")
    ann.say("one")
    first = ann.until("ai_typing")["id"]
    scripted.gate.wait()
    ann.say("two")
    ann.send(type="cancel", id=first)
    assert ann.until("ai_message_complete")["state"] == "stopped"
    ann.send(type="cancel", id=first)
    scripted.gate.opened.set()
    assert ann.until("ai_message_complete")["content"] == "You said: two "


@pytest.mark.parametrize(
    ("pieces", "content", "state"),
    [
        ([], "", "whole"),
        (["", "a", ""], "a", "whole"),
        ([9000 * "a"], 8000 * "a", "whole"),
        (["a", 1], "a", "failed"),
    ],
    ids=["nothing", "empty pieces", "one that is too long", "no text"],
)
def test_whatever_a_model_answers_is_bounded_and_the_room_goes_on(pieces: Any, content: str, state: str) -> None:
    class Odd(ChatRooms, capture_logs=True):
        def setup(self) -> None:
            super().setup()
            self.model = self

        def answer(self, messages: Sequence[Turn]) -> Iterator[str]:
            logging.getLogger("model").warning("its own words")
            yield from pieces

    with serving(Odd) as client, client.websocket_connect("/odd/chat/lobby?name=Ann") as socket:
        ann = Member(socket)
        for text in ("one", "two"):
            ann.say(text)
            told = ann.until("ai_message_complete")
            assert (told["content"], told["state"]) == (content, state)


def test_who_comes_during_an_answer_gets_the_text_so_far_and_then_the_rest(join: Any, scripted: Scripted) -> None:
    ann = join("Ann")
    ann.say("hi")
    scripted.gate.wait()
    ann.until("ai_message_partial")
    ben = join("Ben")
    coming = ben.welcome["history"][-1]
    assert (coming["content"], coming["seq"], coming["state"]) == ("You ", 1, "coming")
    scripted.gate.opened.set()
    assert [ben.hear()["seq"] for _ in range(2)] == [2, 3]
    assert ben.until("ai_message_complete")["content"] == "You said: hi "


def test_an_answer_has_its_place_before_what_is_said_during_it(join: Any, scripted: Scripted) -> None:
    ann, ben = join("Ann", room="one"), join("Ben", room="two")
    ann.say("hi")
    scripted.gate.wait()
    ben.say("one")
    ben.say("two")
    answer = ben.until("ai_typing")["id"]
    assert ben.until("user_message")["id"] > answer
    assert [each["id"] for each in join("Cid", room="two").welcome["history"]][1] == answer


def test_who_comes_back_gets_what_it_missed(join: Any, client: TestClient, scripted: Scripted) -> None:
    scripted.gate.opened.set()
    with client.websocket_connect(f"/chat/lobby?key={ANN}") as socket:
        ann = Member(socket)
        ann.say("one")
        last = ann.until("ai_message_complete")["id"]
        assert not ann.welcome["is_resumed"]
    ben = join("Ben")
    ben.say("two")
    ben.until("ai_message_complete")
    again = join("Ann", key=ANN, after=last)
    assert [each["content"] for each in again.welcome["history"]] == ["two", "You said: two "]
    assert again.welcome["is_resumed"]
    now = join("Ann", after=again.welcome["history"][-1]["id"])
    assert (now.welcome["history"], now.welcome["is_resumed"]) == ([], True)


@pytest.mark.parametrize("after", ["12345678-1", "x", "-", "1-1-1", "½", "12345678-" + "9" * 20])
def test_who_comes_back_to_another_room_of_that_name_gets_all(join: Any, after: str) -> None:
    ann, ben = join("Ann"), join("Ben")
    ann.say("hi")
    ben.until("user_message")
    again = join("Ann", after=after)
    assert (len(again.welcome["history"]), again.welcome["is_resumed"]) == (1, False)


def test_who_has_been_gone_for_too_long_is_told_so(join: Any) -> None:
    ann, ben = join("Ann"), join("Ben")
    ann.say("first")
    first = ben.until("user_message")["id"]
    others = [join(f"N{n}") for n in range(11)]  # of each ten messages a second are taken
    for n in range(101):
        others[n // 10].say(f"{n}")
        ben.until("user_message")
    again = join("Ann", after=first)
    assert (len(again.welcome["history"]), again.welcome["is_resumed"]) == (100, False)


def test_rooms_do_not_hear_each_other(join: Any) -> None:
    ann, ben = join("Ann", room="one"), join("Ben", room="two")
    ann.say("hi")
    ben.send(type="ping")
    assert ben.hear()["type"] == "pong"


def test_a_room_keeps_what_was_said_when_all_have_left(client: TestClient, scripted: Scripted) -> None:
    scripted.gate.opened.set()
    with client.websocket_connect("/chat/lobby") as socket:
        ann = Member(socket)
        ann.say("hi")
        ann.until("ai_message_complete")
    with client.websocket_connect("/chat/lobby") as socket:
        assert [each["content"] for each in Member(socket).welcome["history"]] == ["hi", "You said: hi "]


def test_rooms_that_all_have_left_are_forgotten_where_nothing_was_said_or_there_are_too_many(
    client: TestClient, app: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.chat.app.MOST_EMPTY", 2)
    app.scripted.gate.opened.set()
    for name in ("one", "two", "three", "blank"):
        with client.websocket_connect(f"/chat/{name}") as socket:
            ann = Member(socket)
            if name != "blank":
                ann.say("hi")
                ann.until("ai_message_complete")
    with client.websocket_connect("/chat/now"):
        assert [*app.rooms] == ["room two", "room three", "room now"]


def test_an_answer_goes_on_for_a_moment_when_all_have_left(client: TestClient, app: Chat, advance: Any) -> None:
    with client.websocket_connect("/chat/lobby") as socket:
        Member(socket).say("hi")
        app.scripted.gate.wait()
    with client.websocket_connect("/chat/lobby") as socket:
        assert Member(socket).welcome["history"][-1]["state"] == "coming"
        socket.send_json({"type": "user_message", "message": "and that"})  # which nobody waits for, either
    (job,) = runtime_of(client).jobs
    advance(11)
    client.get("/health")
    until(lambda: job.status == "cancelled")
    app.scripted.gate.opened.set()
    assert len(app.scripted.given) == 1


@pytest.mark.parametrize(
    "text",
    [
        *(
            "{",
            "[]",
            "null",
            "1",
            '"hi"',
            "\ud83d",
            '{"type":"user_message","message":"\\ud83d"}',
            "[" * 300,
            '{"type":"other"}',
            '{"type":"user_message"}',
        ),
        *(
            '{"type":"user_message","message":1}',
            '{"type":"user_message","message":" "}',
            '{"type":"typing","typing":{}}',
        ),
        '{"type":"user_message","message":"' + 100_000 * "x" + '"}',
    ],
    ids=range(14),
)
def test_what_is_no_message_ends_nothing(join: Any, text: str) -> None:
    ann = join("Ann")
    ann.socket.send_text(text.encode("utf-8", "replace").decode())
    assert ann.hear()["type"] == "error"
    ann.send(type="ping")
    assert ann.hear()["type"] == "pong"


def test_bytes_are_no_message(join: Any) -> None:
    ann = join("Ann")
    ann.socket.send_bytes(b"\xff")
    assert ann.hear()["type"] == "error"


def test_of_a_flood_what_is_too_much_is_left_out(join: Any) -> None:
    ann, ben = join("Ann"), join("Ben")
    ann.until("joined")
    for n in range(100):
        ann.say(f"{n}")
    ann.until("error")
    ben.say("last")
    said = 1
    while ben.until("user_message")["content"] != "last":
        said += 1
    assert said < 100


@pytest.mark.parametrize(
    "query",
    [
        "name=",
        "name=%20",
        "name=%E2%80%8B%E2%80%AE",
        "name=a%0Ab",
        f"name={'x' * 41}",
        "key=me",
        f"key={'/' * 32}",
        "after=" + 41 * "x",
    ],
)
def test_a_name_or_key_that_is_none_is_refused(client: TestClient, query: str) -> None:
    with pytest.raises(WebSocketDenialResponse) as refusal, client.websocket_connect(f"/chat/lobby?{query}"):
        pass
    assert refusal.value.status_code == 422


@pytest.mark.parametrize("name", ["eLIZA%20", "eL%E2%80%8BIZA"])
def test_the_models_name_is_nobody_elses(client: TestClient, name: str) -> None:
    with client.websocket_connect(f"/chat/lobby?name={name}") as socket:
        assert (closed := socket.receive())["code"] == 4422
        assert closed["reason"] == "eLIZA is the name of the model; choose another"


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", "名前", "é" * 40, "a  b", "👩‍💻"])
def test_a_name_comes_as_it_was_written(join: Any, name: str) -> None:
    assert join(name).welcome["you"]["name"] == name


def test_fifty_people_hear_each_other(join: Any) -> None:
    people = [join(f"P{n}") for n in range(50)]
    people[0].say("hi")
    assert {person.until("user_message")["content"] for person in people} == {"hi"}


def test_a_model_that_is_asked_too_much_says_so(client: TestClient) -> None:
    class Small(Chat, max_queue=1):
        pass

    app = Small()
    with serving(app) as client, ExitStack() as stack:
        people = [Member(stack.enter_context(client.websocket_connect(f"/chat/{n}"))) for n in range(3)]
        for person in people:
            person.say("hi")
            person.until("ai_typing")
            if person is people[0]:  # whose answer waits for nothing, then
                app.scripted.gate.wait()
        failed = people[2].until("ai_message_complete")
        assert (failed["state"], "queue" in failed["error"]) == ("failed", True)
        app.scripted.gate.opened.set()


def test_a_model_that_fails_fails_its_answer_alone(join: Any, app: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.scripted, "answer", lambda messages: 1 / 0)
    ann = join("Ann")
    ann.say("hi")
    assert [ann.until("ai_typing")["typing"] for _ in range(2)] == [True, False]
    failed = ann.hear()
    assert failed["state"] == "failed" and "ZeroDivisionError" in failed["error"]


def test_a_bug_fails_its_answer_alone_and_is_logged(
    join: Any, app: Chat, scripted: Scripted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.gate.opened.set()
    ann = join("Ann")
    with monkeypatch.context() as broken:
        broken.setattr(app.rooms["room lobby"], "_ask", None)
        ann.say("hi")
        assert ann.until("ai_message_complete")["error"].startswith("the answer failed with TypeError")
    assert "an answer in a room failed" in caplog.text
    ann.say("hi")
    assert ann.until("ai_message_complete")["state"] == "whole"


def test_an_answer_without_end_is_cut(join: Any, app: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.scripted, "answer", lambda messages: iter(lambda: 1000 * "x", None))
    ann = join("Ann")
    ann.say("hi")
    assert len(ann.until("ai_message_complete")["content"]) == 8000


def test_a_session_of_the_guides_is_a_room_of_its_own_with_all_text_in_each_piece(
    client: TestClient, scripted: Scripted
) -> None:
    scripted.gate.opened.set()
    with client.websocket_connect("/chat") as socket, client.websocket_connect("/chat") as other:
        me = Member(socket)
        assert me.welcome["session_id"] != Member(other).welcome["session_id"]
        me.say("hi")
        partial = me.until("ai_message_partial")  # of those that it has not read the newest
        assert partial["content"] == "".join(["You ", "said: ", "hi "][: partial["seq"]])
        assert me.until("ai_message_complete")["content"] == "You said: hi "
    with client.websocket_connect(f"/chat?session_id={me.welcome['session_id']}") as socket:
        assert [each["content"] for each in Member(socket).welcome["history"]] == ["hi", "You said: hi "]


def test_a_session_cannot_be_had_by_a_guess(client: TestClient) -> None:
    with pytest.raises(WebSocketDenialResponse), client.websocket_connect("/chat?session_id=me"):
        pass


def test_the_model_alone_is_an_endpoint(client: TestClient, scripted: Scripted) -> None:
    scripted.gate.opened.set()
    messages = [{"role": "user", "content": "hi"}]
    assert (
        client.post("/reply", json={"messages": messages}, headers={"Accept": "application/json"}).json()
        == "You said: hi "
    )
    for wrong in ([], [{"role": "system", "content": ""}], 101 * messages, [{"content": 4001 * "x"}]):
        assert client.post("/reply", json={"messages": wrong}).status_code == 422


# The guide's own clients


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    environment = {**os.environ, "STREAMAPP_CHAT_MODEL": "rules"}
    with serving_app(str(ROOT / "apps" / "chat" / "app.py"), env=environment) as (url, _):
        yield url


@needs_node
def test_the_guides_client_for_javascript_chats(url: str) -> None:
    script = chatting_client().replace("https://myuser-my-chute.chutes.ai", url)
    script = "const updateChatInterface = (content) => console.log(content);\n" + script
    command = [str(shutil.which("node")), "--experimental-websocket", "-e", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert read_until(process.stdout, "talk").strip() == "Hello, guest. What would you like to talk"
        process.kill()


@needs_aiohttp
async def test_the_guides_client_for_python_chats(url: str) -> None:
    names: dict[str, Any] = {}
    exec(compile((GUIDE / "client.py").read_text(), "client.py", "exec"), names)
    handled: list[Any] = []

    async def handle(message: Any) -> None:
        handled.append(message)

    async with asyncio.timeout(WAIT_S), names["ChutesAsyncClient"](url) as client:
        async for message in client.connect_websocket("/chat", message_handler=handle):
            if message["type"] == "system":
                await client.send_websocket_message({"type": "user_message", "message": "I like tea"})
            if message["type"] == "ai_message_complete":
                break
    assert handled[-1]["content"] == "What do you like about tea?"


# The stand-in


def said(*texts: str, name: str = "Ann") -> str:
    """Return what is answered to the last of what somebody says."""
    turns: list[Turn] = []
    for text in texts:
        turns.append(Turn(name=name, content=text))
        answer = "".join(RuleBased(0).answer(turns))
        turns.append(Turn(role="assistant", content=answer))
    return answer


@pytest.mark.parametrize(
    "texts, answer",
    [
        (["Hello!"], "Hello, Ann. What would you like to talk about?"),
        (["my name is Bo", "What's my name?"], "You are Bo."),
        (["who am I?"], "You are Ann."),
        (["I like tea.", "and I love my cat", "what do I like?"], "You like tea and your cat."),
        (["what do I like"], "You have not told me what you like."),
        (["I enjoy my work"], "What do you like about your work?"),
        (["I am tired"], "Why are you tired?"),
        (["I need a break."], "What would it mean to you to have a break?"),
        (["one", "what did I say?"], 'You said: "one"'),
        (["what did I say?"], "You have said nothing before."),
        (["@Eliza, who are you?"], "A stand-in for a language model: I answer by a few rules."),
        (["I like tea", "the weather is fine"], "Has that to do with tea, which you like?"),
        (["the weather is fine"], "Go on."),
        (["who is here"], "I have heard from Ann."),
        (["Why?"], "What do you think yourself?"),
        (["because"], "Is that the only reason?"),
        (["bye"], "Goodbye, Ann."),
        (["thanks"], "You are welcome."),
        (["my name is Bo"], "Nice to meet you, Bo. What do you like?"),
    ],
)
def test_the_stand_in_answers_by_what_was_said(texts: list[str], answer: str) -> None:
    assert said(*texts) == answer


def test_the_stand_in_knows_nobodys_name_where_none_was_told() -> None:
    assert said("hi", name="") == "Hello. What would you like to talk about?"
    assert said("bye", name="") == "Goodbye."
    assert said("who am i", name="") == "You have not told me your name."
    assert said("who is here", name="") == "I have heard from you alone."


def test_the_stand_in_answers_all_who_call_it() -> None:
    turns = [Turn(name=name, content="@Eliza who am I?") for name in ("Ann", "Ben")]
    assert "".join(RuleBased(0).answer(turns)) == "You are Ann. You are Ben."

"""The editor: texts that several write at once, through the app, by what y-websocket sends and by plain operations."""

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient, WebSocketDenialResponse, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect
from tests import waiting
from tests.served import serving

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.editor import document, journal
from apps.editor.app import Editor
from apps.editor.store import Store
from apps.editor.wire import Kind, Step, buffer, number, read_state, sync
from tests.in_document import Peer, said_of

from streamapp.errors import DefinitionError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STREAMAPP_EDITOR_FOLDER", str(tmp_path))
    return tmp_path


@pytest.fixture
def editor(folder: Path) -> Editor:
    return Editor()


@pytest.fixture
def server(editor: Editor) -> Iterator[TestClient]:
    with serving(editor) as client:
        yield client


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Serve tests that have a document each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STREAMAPP_EDITOR_FOLDER", str(tmp_path_factory.mktemp("documents")))
        with serving(Editor()) as client:
            yield client


def text_of(server: TestClient, name: str = "d") -> str:
    text: str = server.post("/text", json={"name": name}).json()["text"]
    return text


def varied(*parts: int | str | bytes) -> bytes:
    """Write an update of Yjs by hand: numbers, texts behind their length, bytes as they are."""
    written = (number(p) if isinstance(p, int) else buffer(p.encode()) if isinstance(p, str) else p for p in parts)
    return b"".join(written)


def edit_of(client: int, clock: int, head: int, *rest: int | str | bytes) -> bytes:
    """Write an update that holds one edit."""
    return varied(1, 1, client, clock, bytes([head]), *rest, 0)


def closing(socket: WebSocketTestSession) -> tuple[int, str]:
    """Wait for the close; return its code and reason."""
    with pytest.raises(WebSocketDisconnect) as caught:
        while True:
            socket.receive_bytes()
    return caught.value.code, caught.value.reason


def until(socket: WebSocketTestSession, kind: str) -> Any:
    """Return the next message of a type."""
    while (message := socket.receive_json())["type"] != kind:
        pass
    return message


def insert(position: int, text: str) -> dict[str, Any]:
    return {"type": "operation", "operation": {"type": "insert", "position": position, "text": text}}


def delete(start: int, length: int) -> dict[str, Any]:
    return {"type": "operation", "operation": {"type": "delete", "start": start, "length": length}}


def test_what_two_write_at_once_ends_as_one_text(server: TestClient) -> None:
    with Peer(server) as one, Peer(server) as two:
        one.write(0, "Hello ")
        two.write(0, "World 😀")
        one.settle(), two.settle(), one.settle()
        assert str(one) == str(two) == text_of(server) != ""


def test_a_late_joiner_has_what_was_written_before(server: TestClient) -> None:
    with Peer(server) as one, Peer(server) as late:
        one.write(0, "first")
        one.settle()
        assert str(late.settle()) == "first"
        with Peer(server) as later:
            assert str(later) == "first"


def test_what_was_written_offline_is_merged_on_return(server: TestClient) -> None:
    one = Peer(server)
    with one, Peer(server) as two:
        one.write(0, "middle")
        one.settle(), two.settle()
    with two:
        one.write(0, "begin ")
        two.write(1000, " end")
        with one:
            two.settle()
            assert str(one.settle()) == str(two.settle()) == "begin middle end"


def test_an_edit_that_comes_before_those_it_needs_is_asked_for_again(server: TestClient) -> None:
    away = Peer(server)
    away.write(0, "a")
    first = away.doc.get_state()
    away.write(1000, "b")
    with server.websocket_connect("/documents/d") as socket:
        socket.receive_bytes(), socket.receive_bytes()
        socket.send_bytes(sync(Step.UPDATE, away.doc.get_update(first)))
        assert socket.receive_bytes() == sync(Step.STATE, b"\0")
        socket.send_bytes(sync(Step.MISSING, away.doc.get_update()))
        socket.send_bytes(number(Kind.ASK_AWARENESS))
        socket.receive_bytes()
        assert text_of(server) == "ab"


def test_documents_outlive_the_server_and_are_merged_to_one_edit(folder: Path) -> None:
    with serving(Editor()) as server, Peer(server) as one:
        for word in ("one ", "two ", "three"):
            one.write(1000, word)
        one.settle()
    store = Store(folder)
    assert [edit.version for edit in store.load("d")] == [3]
    store.close()
    with serving(Editor()) as server:
        assert text_of(server) == "one two three"


def test_an_edit_that_was_acknowledged_is_on_the_disk(folder: Path, server: TestClient) -> None:
    with server.websocket_connect("/collaborate/d") as socket:
        socket.send_json(insert(0, "kept"))
        assert until(socket, "ack") == {"type": "ack", "version": 1}
        assert b"kept" in (folder / "documents.sqlite-wal").read_bytes()


def test_many_edits_are_merged_while_they_come(
    folder: Path, server: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_MOST_EDITS", 4)
    with Peer(server) as one:
        for _ in range(20):
            one.write(1000, "word ")
            one.settle()
    assert text_of(server) == 20 * "word "


def test_a_document_that_nobody_has_open_is_freed(editor: Editor, server: TestClient) -> None:
    with Peer(server) as one:
        one.write(0, "a")
        one.settle()
        assert len(editor.documents) == 1
    assert text_of(server) == "a"
    waiting.until(lambda: len(editor.documents) == 0)


def test_only_one_process_has_a_folder(folder: Path, server: TestClient) -> None:
    assert text_of(server) == ""  # the one that has it is there
    with pytest.raises(DefinitionError, match="name another one"):
        Editor().setup()


def test_a_folder_whose_documents_are_none_is_refused(folder: Path) -> None:
    (folder / "documents.sqlite").write_bytes(4096 * b"x")
    with pytest.raises(DefinitionError, match="not a database"):
        Editor().setup()


@pytest.mark.parametrize("name", ["", "%2e%2e%2fsecret", ".hidden", "a%00b", 65 * "a", "a b", "é"])
def test_a_name_that_is_none_is_refused(shared: TestClient, name: str) -> None:
    with pytest.raises((WebSocketDisconnect, WebSocketDenialResponse)), shared.websocket_connect(f"/documents/{name}"):
        pass


def test_what_somebody_says_of_itself_is_told_to_the_others(server: TestClient) -> None:
    with Peer(server) as one:
        with Peer(server) as two, server.websocket_connect("/documents/d") as three:
            three.send_bytes(said_of(7, 1, '{"user":{"name":"Ann"}}'))
            assert one.hear_of(7) == two.hear_of(7) == '{"user":{"name":"Ann"}}'
            with Peer(server) as late:
                assert late.people == {7: '{"user":{"name":"Ann"}}'}
        assert one.hear_of(7) == "null"


def test_nobody_speaks_for_somebody_else(server: TestClient) -> None:
    with Peer(server) as one, server.websocket_connect("/documents/d") as two, Peer(server) as three:
        two.send_bytes(said_of(7, 1, '{"a":1}'))
        assert three.hear_of(7) == '{"a":1}'
        assert three.socket is not None
        for clock, state in enumerate(("null", '{"a":2}', "null"), start=2):
            three.socket.send_bytes(said_of(7, clock, state))
        three.settle()
        two.send_bytes(said_of(7, 2, '{"a":3}'))
        assert [one.hear_of(7), one.hear_of(7)] == ['{"a":1}', '{"a":3}']


def test_who_comes_back_before_its_old_socket_has_gone_is_seen(server: TestClient) -> None:
    with Peer(server) as one, server.websocket_connect("/documents/d") as new:
        with server.websocket_connect("/documents/d") as old:
            old.send_bytes(said_of(7, 5, '{"a":1}'))
            one.hear_of(7)
            new.receive_bytes(), new.receive_bytes()
            new.send_bytes(said_of(7, 5, '{"a":2}'))
            assert said_of(7, 5, "null") in (new.receive_bytes(), new.receive_bytes(), new.receive_bytes())
            new.send_bytes(said_of(7, 6, '{"a":2}'))
        assert '{"a":2}' in (one.hear_of(7), one.hear_of(7))


def test_who_is_alone_hears_that_it_is_there(server: TestClient) -> None:
    with server.websocket_connect("/documents/d") as alone:
        alone.send_bytes(said_of(7, 1, "{}"))
        heard = [alone.receive_bytes() for _ in range(4)]
        assert heard[2:] == [said_of(7, 1, "null"), said_of(7, 1, "{}")]


BETWEEN_HALVES = {
    "an edit between them": (edit_of(6, 0, 128 | 64 | 4, 5, 1, 5, 2, "x"), "a\ufffdx\ufffdb"),
    "an edit behind the first half": (edit_of(6, 0, 128 | 4, 5, 1, "x"), "a\ufffd\ufffdbx"),
    "an edit before the second half": (edit_of(6, 0, 64 | 4, 5, 2, "x"), "a\ufffdx\ufffdb"),
    "the first half gone": (varied(0, 1, 5, 1, 1, 1), "a\ufffdb"),
    "the second half gone": (varied(0, 1, 5, 1, 2, 1), "a\ufffdb"),
    "both gone": (varied(0, 1, 5, 1, 1, 2), "ab"),
    "what is known ends at the first half": (edit_of(5, 3, 128 | 4, 5, 2, "b😀"), "a😀b😀"),
    "what is known ends between halves": (edit_of(5, 3, 128 | 4, 5, 2, "😀"), "a😀b\ufffd"),
}


@pytest.mark.parametrize("kind", BETWEEN_HALVES)
def test_a_character_between_whose_halves_an_edit_comes_is_two_unknown_ones(folder: Path, kind: str) -> None:
    """As in Yjs, https://github.com/yjs/yjs/issues/248, so that all copies have the same."""
    update, text = BETWEEN_HALVES[kind]
    with serving(Editor()) as server, server.websocket_connect("/collaborate/d") as socket, Peer(server) as one:
        plain = Plain(socket)
        assert one.socket is not None
        one.socket.send_bytes(sync(Step.UPDATE, edit_of(5, 0, 4, 1, "content", "a😀b")))
        one.socket.send_bytes(sync(Step.UPDATE, update))
        one.settle()
        plain.settle()
        with Peer(server) as late:
            assert str(late) == plain.text == text_of(server) == text
    with serving(Editor()) as server:
        assert text_of(server) == text


def test_an_edit_that_is_there_already_parts_nothing(server: TestClient) -> None:
    with Peer(server) as one:
        assert one.socket is not None
        for edit in (edit_of(5, 0, 4, 1, "content", "😀"), edit_of(6, 0, 128 | 4, 5, 1, "x")):
            one.socket.send_bytes(sync(Step.UPDATE, edit))
        one.socket.send_bytes(sync(Step.UPDATE, edit_of(6, 0, 128 | 4, 5, 0, "x")))
        assert str(one.settle()) == text_of(server) == "😀x"


def test_edits_that_bring_a_character_and_part_it_are_taken_as_one(server: TestClient) -> None:
    with Peer(server) as one:
        assert one.socket is not None
        first = varied(1, 5, 0, bytes([4]), 1, "content", "😀")
        second = varied(1, 6, 0, bytes([128 | 64 | 4]), 5, 0, 5, 1, "x")
        one.socket.send_bytes(sync(Step.MISSING, varied(2, first, second, 0)))
        one.settle()
        one.write(1000, "😀")
        one.settle()
        with Peer(server) as late:
            assert str(late) == text_of(server) == "\ufffdx\ufffd😀"


HOSTILE = {
    "random bytes": b"\x99\x88\x77",
    "a message of no kind": varied(2, "x"),
    "a step that is none": varied(0, 9, "x"),
    "bytes behind the end": sync(Step.UPDATE, varied(0, 0)) + b"x",
    "a buffer that is cut": varied(0, 2, 100, b"abc"),
    "a number without an end": b"\xff" * 12,
    "a number that JavaScript has not": sync(Step.UPDATE, edit_of(2**53, 0, 4, 1, "content", "abc")),
    "a large state that is none": sync(Step.STATE, varied(50_000, 50_000 * b"\1")),
    "a state that is none": sync(Step.STATE, varied(3, 1)),
    "clients without number": sync(Step.UPDATE, varied(100_000_000, 0, 0)),
    "nested values that overflow the stack": sync(
        Step.UPDATE, edit_of(5, 0, 8, 1, "content", 1, b"u\x01" * 200_000, b"~")
    ),
    "another type": sync(Step.UPDATE, edit_of(5, 0, 7, 1, "content", 1)),
    "another text": sync(Step.UPDATE, edit_of(5, 0, 4, 1, "other", "abc")),
    "a key": sync(Step.UPDATE, edit_of(5, 0, 4 | 32, 1, "content", "k", "abc")),
    "no text": sync(Step.UPDATE, edit_of(5, 0, 4, 1, "content", "")),
    "text that is no UTF-8": sync(Step.UPDATE, edit_of(5, 0, 4, 1, "content", 2, b"\xff\xfe")),
    "a clock that overflows": sync(Step.UPDATE, edit_of(5, 2**32 - 1, 4, 1, "content", "abc")),
    "an edit beside itself": sync(Step.UPDATE, edit_of(5, 0, 4 | 128, 5, 0, "abc")),
    "two edits beside each other": sync(
        Step.UPDATE, varied(2, 1, 8, 0, bytes([132]), 9, 0, "a", 1, 9, 0, bytes([132]), 8, 0, "b", 0)
    ),
    "a client twice": sync(Step.UPDATE, varied(2, 1, 5, 0, b"\0", 1, 1, 5, 1, b"\0", 1, 0)),
    "edits that need what nobody has": sync(Step.MISSING, edit_of(5, 7, 4, 1, "content", "abc")),
    "deletes of what nobody has": sync(Step.MISSING, varied(0, 1, 5, 1, 0, 9)),
    "more people than there can be": number(Kind.AWARENESS) + buffer(varied(1001, 1001 * b"\1\1\0")),
    "somebody without JSON": said_of(5, 1, "{"),
    "somebody who is no object": said_of(5, 1, "[]"),
    "somebody who is not a number": said_of(5, 1, '{"a":NaN}'),
    "somebody who says too much": said_of(5, 1, '{"a":"' + 5000 * "a" + '"}'),
    "somebody in too deep": said_of(5, 1, '{"a":' + 2000 * "["),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_malformed_ends_its_own_socket_alone(shared: TestClient, kind: str) -> None:
    name = kind.replace(" ", "-")
    with Peer(shared, name) as one, shared.websocket_connect(f"/documents/{name}") as bad:
        one.write(0, "safe")
        one.settle()
        bad.send_bytes(HOSTILE[kind])
        code, reason = closing(bad)
        assert (code, reason[:8]) == (4422, "Expected")
        one.write(1000, " and sound")
        assert str(one.settle()) == text_of(shared, name) == "safe and sound"


def test_large_messages_are_read_one_after_the_other(server: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a few who send them keep all threads, in which edits are written."""
    reading = threading.Lock()

    def alone(data: bytes) -> dict[int, int]:
        assert reading.acquire(blocking=False)
        state = read_state(data)
        reading.release()
        return state

    monkeypatch.setattr(document, "read_state", alone)
    with ExitStack() as stack:
        sockets = [stack.enter_context(server.websocket_connect(f"/documents/{name}")) for name in "abc"]
        for socket in sockets:
            socket.send_bytes(sync(Step.STATE, varied(20_000, 20_000 * b"\1\1")))
        for socket in sockets:
            assert [socket.receive_bytes() for _ in range(3)][2] == sync(Step.MISSING, varied(0, 0))


def test_a_document_that_is_full_takes_deletes_alone(server: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MOST_BYTES", 1000)
    with Peer(server) as one:
        one.write(0, 900 * "a")
        one.settle()
        with server.websocket_connect("/collaborate/d") as plain:
            plain.send_json(insert(0, 200 * "b"))
            assert "at most 1000 bytes" in until(plain, "error")["error"]
            assert len(until(plain, "document_state")["content"]) == 900
            plain.send_json(delete(0, 1))
            assert len(until(plain, "document_state")["content"]) == 899
        one.settle()
        one.write(0, "", instead=898)
        one.settle()
        one.write(0, 800 * "c")
        assert len(str(one.settle())) == len(text_of(server)) == 801
        one.write(0, 300 * "d")
        assert one.socket is not None
        assert closing(one.socket)[0] == 4413
    with Peer(server) as one:
        assert one.socket is not None
        one.socket.send_bytes(sync(Step.UPDATE, 2000 * b"a"))
        assert closing(one.socket)[0] == 4413


def test_documents_have_a_number(server: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MOST_DOCUMENTS", 1)
    with Peer(server, "one") as one:
        one.write(0, "a")
        one.settle()
    assert text_of(server, "one") == "a"
    assert server.post("/text", json={"name": "two"}).status_code == 507


def test_edits_that_cannot_be_written_end_the_sockets_and_are_sent_again(folder: Path) -> None:
    editor = Editor()
    one = None
    with serving(editor) as server:
        one = Peer(server)
        with one:
            editor.store._database.execute("DROP TABLE edits")
            one.write(0, "kept by its author")
            assert one.socket is not None
            assert closing(one.socket) == (1011, "the edits could not be written")
    with serving(Editor()) as server:
        one._server = server
        with one:
            assert text_of(server) == "kept by its author"


def test_plain_operations_and_yjs_edit_the_same_text(server: TestClient) -> None:
    with server.websocket_connect("/collaborate/d") as plain, Peer(server) as one:
        empty = {"type": "document_state", "doc_id": "d", "content": "", "version": 0}
        assert plain.receive_json() == empty
        plain.send_json(insert(0, "a😀c"))
        assert plain.receive_json() == {"type": "ack", "version": 1}
        assert str(one.settle()) == "a😀c"
        one.write(1000, "é!", instead=0)
        told = plain.receive_json()
        assert told["operation"] == {"type": "insert", "position": 3, "text": "é!"}
        plain.send_json(delete(1, 2))
        assert until(plain, "document_state")["content"] == str(one.settle()) == "aé!"


def test_an_author_that_may_have_missed_an_edit_is_answered_with_the_text(server: TestClient) -> None:
    with server.websocket_connect("/collaborate/d") as one, server.websocket_connect("/collaborate/d") as two:
        one.send_json(insert(0, "one"))
        assert until(one, "ack")["version"] == 1
        two.send_json(insert(0, "two "))
        state = {"type": "document_state", "doc_id": "d", "content": "two one", "version": 2}
        two.receive_json()
        assert until(two, "document_state") == state
        one.send_json(insert(3, "!"))
        assert until(one, "document_state")["content"] == "two! one"
        assert until(two, "operation")["operation"] == {"type": "insert", "position": 4 - 1, "text": "!"}


def test_a_place_that_is_not_in_the_text_is_told_with_the_text(server: TestClient) -> None:
    with server.websocket_connect("/collaborate/d") as plain:
        plain.receive_json()
        plain.send_json(delete(0, 1))
        assert "which has 0 characters" in plain.receive_json()["error"]
        assert plain.receive_json()["content"] == ""


def test_an_edit_that_changes_nothing_is_acknowledged_as_the_version_that_there_was(server: TestClient) -> None:
    with server.websocket_connect("/collaborate/d") as plain:
        plain.receive_json()
        for nothing in (insert(0, ""), delete(0, 0)):
            plain.send_json(nothing)
            assert plain.receive_json() == {"type": "ack", "version": 0}


@pytest.mark.parametrize(
    "said",
    [
        *("{", "[]", '{"type":"operation"}', '{"type":"cursor_position"}'),
        '{"type":"operation","operation":{"type":"insert","position":true,"text":"a"}}',
        '{"type":"operation","operation":{"type":"insert","position":-1,"text":"a"}}',
        '{"type":"operation","operation":{"type":"insert","position":0,"text":"\\ud800"}}',
        '{"type":"operation","operation":{"type":"delete","start":0,"length":1e30}}',
        '{"type":"operation","operation":{"type":"format"}}',
    ],
)
def test_what_is_no_plain_operation_is_refused_to_its_author_alone(shared: TestClient, said: str) -> None:
    with shared.websocket_connect("/collaborate/plain") as plain:
        version = plain.receive_json()["version"]
        plain.send_text(said)
        assert plain.receive_json()["type"] == "error"
        plain.send_json(insert(0, "a"))
        assert plain.receive_json() == {"type": "ack", "version": version + 1}


def test_plain_clients_hear_who_comes_who_is_where_and_who_goes(server: TestClient) -> None:
    with server.websocket_connect("/collaborate/d") as one:
        one.receive_json()
        with server.websocket_connect("/collaborate/d") as two:
            author = one.receive_json()
            assert author["type"] == "user_joined"
            two.send_json({"type": "cursor_position", "position": 3})
            assert one.receive_json() == {**author, "type": "cursor_update", "position": 3}
        assert one.receive_json() == {**author, "type": "user_left"}


WORDS = st.text(st.sampled_from("abc é😀\n"), min_size=1, max_size=5)
DEEDS = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 3), st.integers(0, 1000), WORDS, st.integers(0, 4)),
    st.tuples(st.sampled_from(["cut", "connect", "settle", "new"]), st.integers(0, 3)),
    st.tuples(st.just("plain"), st.integers(0, 1000), WORDS, st.integers(0, 4)),
)


class Plain:
    """Somebody without Yjs, who shows an edit of their own at once, as the guide's client does."""

    def __init__(self, socket: WebSocketTestSession) -> None:
        self.socket, self.text = socket, socket.receive_json()["content"]

    def write(self, at: int, text: str, gone: int) -> None:
        begin = at * len(self.text) // 1000
        gone = min(gone, len(self.text) - begin)
        for operation in (delete(begin, gone), insert(begin, text)):
            self.socket.send_json(operation)
            self._apply(operation["operation"])

    def _apply(self, operation: dict[str, Any]) -> None:
        start = operation.get("position", operation.get("start"))
        end = start + operation.get("length", 0)
        self.text = self.text[:start] + operation.get("text", "") + self.text[end:]

    def settle(self) -> None:
        """Take what has come; an operation that is none is answered behind all."""
        self.socket.send_json({"type": "settle"})
        while (message := self.socket.receive_json())["type"] != "error" or isinstance(message["error"], str):
            if message["type"] == "document_state":
                self.text = message["content"]
            elif message["type"] == "operation":
                self._apply(message["operation"])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(DEEDS, max_size=40))
def test_whatever_is_edited_when_and_where_ends_as_one_text_everywhere(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, deeds: list[Any]
) -> None:
    monkeypatch.setenv("STREAMAPP_EDITOR_FOLDER", str(tmp_path_factory.mktemp("documents")))
    with serving(Editor()) as server, server.websocket_connect("/collaborate/d") as socket:
        plain = Plain(socket)
        peers = [Peer(server) for _ in range(4)]
        for name, *rest in deeds:
            act(name, rest, peers, plain, server)
        for peer in peers:
            if peer.socket is None:
                peer.__enter__()
        plain.settle()
        for peer in peers:
            peer.settle()
        text = text_of(server)
        assert {str(peer) for peer in peers} == {text}
        assert plain.text == text
        for peer in peers:
            peer.__exit__()
    with serving(Editor()) as server:
        assert text_of(server) == text


def act(name: str, rest: list[Any], peers: list[Peer], plain: Plain, server: TestClient) -> None:
    match name, *rest:
        case "write", who, at, text, gone:
            peers[who].write(at, text, instead=gone)
        case "plain", at, text, gone:
            plain.write(at, text, gone)
        case "cut", who if peers[who].socket is not None:
            peers[who].__exit__()
        case "connect", who if peers[who].socket is None:
            peers[who].__enter__()
        case "settle", who if peers[who].socket is not None:
            peers[who].settle()
        case "new", who if peers[who].socket is None:
            peers[who].__enter__().__exit__()
            peers[who] = Peer(server)

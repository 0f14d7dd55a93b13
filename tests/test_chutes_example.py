"""Chutes' example of streaming: its server and its three clients, as they are written there but for import and URL."""

import pytest
from tests.documents import EXAMPLE, digest


@pytest.mark.parametrize(
    ("name", "known_by"),
    [
        ("streaming_processor.py", "d1675538ed88f9999b0bb52fed6e79db5c05d635cd1a46f7c4601fe8c1980b0b"),
        ("client.sh", "9be9f2df049be72f336a32eacfe8242442547429a9eaed8353c1018d705373d0"),
        ("client.py", "35c8bb8741aa4a8cc3471d608c04627d3fe43add33791389320c33492867552b"),
        ("client.js", "18a9bf707c3bd51a688bd76f8cb142acc3eb22f3424044dcb932915cefdc154c"),
    ],
)
def test_the_files_are_the_examples_but_for_the_import_and_what_it_lacks(name: str, known_by: str) -> None:
    text = (EXAMPLE / name).read_text().replace("from streamapp.chutes", "from chutes")
    if name == "streaming_processor.py":
        text = text[text.index("import asyncio") : text.index("# === WHAT THE EXAMPLE LACKS ===")]
    assert digest(text) == known_by

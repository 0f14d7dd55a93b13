"""The chat's real language models: any that transformers loads, tried with one whose weights are random."""

import sys
from pathlib import Path

import pytest
import torch
from tests.served import serving
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.chat.app import ChatRooms
from apps.chat.language import LanguageModel
from apps.chat.model import Turn

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a language model of the real layout, whose weights are random."""
    folder: Path = tmp_path_factory.mktemp("model")
    bytes_alone = Tokenizer(BPE({sign: n for n, sign in enumerate(sorted(ByteLevel.alphabet()))}, []))
    bytes_alone.pre_tokenizer, bytes_alone.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_alone, eos_token="<|end|>", pad_token="<|end|>")
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.role }}: {{ message.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokenizer.save_pretrained(folder)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=128, eos_token_id=256, **size)
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_language_model_answers_in_a_room(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_CHAT_MODEL", str(checkpoint))
    with serving(ChatRooms) as client, client.websocket_connect("/chat/lobby?name=Ann") as socket:
        socket.send_json({"type": "user_message", "message": "hello"})
        heard = [socket.receive_json()]
        while heard[-1]["type"] != "ai_message_complete":
            heard.append(socket.receive_json())
    pieces = [each["token"] for each in heard if each["type"] == "ai_message_partial"]
    assert (heard[-1]["state"], heard[-1]["content"]) == ("whole", "".join(pieces))
    assert len(pieces) > 1


def test_a_language_model_reads_the_newest_messages_that_it_can_read_at_once(checkpoint: Path) -> None:
    model = LanguageModel(str(checkpoint), 2)
    old, answer, new = Turn(content=100 * "x"), Turn(role="assistant", content="yes"), Turn(name="Ben", content="hi")
    assert model._tokenizer.decode(model._prompt([old, answer, new])) == "user: Ben: hi<|end|>assistant: "
    assert len(model._prompt([old])) == 64
    assert "".join(model.answer([old]))


def test_a_language_model_without_a_template_is_refused_with_what_to_name(checkpoint: Path, tmp_path: Path) -> None:
    for file in checkpoint.iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match="name a model that was made for chats"):
        LanguageModel(str(tmp_path), 2)

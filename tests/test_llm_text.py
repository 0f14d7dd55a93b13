"""Texts of tokens while they come: characters stay whole, what ends one is held back, and all pieces are the text."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.scripted_model import END, LETTERS, ids
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from streamapp.llm.text import Detokenizer, StopTexts, Writer, decoding, end_tokens

WORDS = "the king said that it was so, and there was a tower by the sea. who lives there? a queen! 你好世界 🎉 é"


def byte_level() -> Any:
    """Return a tokenizer like GPT-2's, whose tokens are pieces of words or single bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([WORDS], trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


def metaspace() -> Any:
    """Return a tokenizer like Llama's, of SentencePiece's kind: words begin with a mark, and what is rare is bytes."""
    rest = "".join(sorted({*WORDS} - {*"你好世界🎉 "}))
    vocabulary = {"<unk>": 0} | {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
    vocabulary |= {piece: 257 + n for n, piece in enumerate(["▁", *rest, "▁t", "▁th", "▁the", "er", "▁a"])}
    merges = [("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("e", "r"), ("▁", "a")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


def word_piece() -> Any:
    """Return a tokenizer like BERT's, which puts the spaces back."""
    pieces = ["[UNK]", "the", "king", "said", "##s", "##ing", "##er", ".", ",", "?", "tow", "sea", "a", "##a"]
    tokenizer = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="[SEP]", unk_token="[UNK]")


TOKENIZERS = {"byte level": byte_level(), "metaspace": metaspace(), "word piece": word_piece()}


class Slow:
    """A tokenizer of transformers' without a `backend_tokenizer`."""

    def decode(self, ids: Sequence[int], **options: bool) -> str:
        assert options == {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return str(LETTERS.backend_tokenizer.decode(ids, skip_special_tokens=True))


def pieces(tokenizer: Any, tokens: Sequence[int], prompt: Sequence[int] = ()) -> list[str]:
    """Return what each token decides, and what is left."""
    detokenizer = Detokenizer(decoding(tokenizer), prompt)
    return [*map(detokenizer.add, tokens), detokenizer.end()]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("text", ["the king said.", "the thing 你好世界", "🎉🎉 the 👨‍👩‍👧 é", "a", " the", "  a  "])
def test_the_pieces_are_what_is_decoded_at_once(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    tokens = tokenizer(text)["input_ids"]
    assert "".join(pieces(tokenizer, tokens)) == tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_behind_a_prompt_the_pieces_go_on_as_it_has_begun(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    tokens = tokenizer("the king said a thing the king")["input_ids"]
    for cut in range(1, len(tokens)):
        before, after = tokens[:cut], tokens[cut:]
        whole = tokenizer.backend_tokenizer.decode(tokens)
        assert "".join(pieces(tokenizer, after, before)) == whole[len(tokenizer.backend_tokenizer.decode(before)) :]


@pytest.mark.parametrize("name", ["byte level", "metaspace"])
@pytest.mark.parametrize("text", ["🎉", "你好", "a🎉b你", "👨‍👩‍👧"])
def test_no_character_is_ever_split(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    tokens = tokenizer(text)["input_ids"]
    assert "\ufffd" not in "".join(pieces(tokenizer, tokens)) and pieces(tokenizer, tokens)[-1] == ""


def test_a_character_comes_with_its_last_token_and_not_later() -> None:
    assert pieces(LETTERS, ids("x🎉y")) == ["x", "", "", "", "🎉", "y", ""]


def test_a_character_that_has_not_become_whole_is_unreadable() -> None:
    assert pieces(LETTERS, ids("x🎉")[:-1]) == ["x", "", "", "", "\ufffd"]


def test_a_character_that_the_prompt_has_begun_is_told() -> None:
    begun = ids("x🎉")
    assert pieces(LETTERS, begun[3:], begun[:3]) == ["", "🎉", ""]


def test_special_tokens_are_left_out_and_join_nothing() -> None:
    tokenizer = TOKENIZERS["metaspace"]
    tokens = tokenizer("the king")["input_ids"]
    end = tokenizer.eos_token_id
    assert "".join(pieces(tokenizer, [tokens[0], *[end] * 40, *tokens[1:]])) == "the king"


def test_bytes_that_are_no_text_never_stop_what_comes_after() -> None:
    broken = ids("🎉")[:1] * 200
    for tokenizer in (LETTERS, TOKENIZERS["metaspace"]):
        after = tokenizer("abc")["input_ids"]
        broken = [tokenizer("🎉")["input_ids"][-1]] * 200
        assert "".join(pieces(tokenizer, [*broken, *after])).endswith("abc")


def test_a_token_costs_the_same_however_long_the_text_is() -> None:
    widths: list[int] = []

    def decode(tokens: list[int]) -> str:
        widths.append(len(tokens))
        return decoding(LETTERS)(tokens)

    detokenizer = Detokenizer(decode, ids("some prompt " * 100))
    for token in [*ids("long text 你好 " * 100), *ids("🎉")[:1] * 500]:
        detokenizer.add(token)
    assert max(widths) < 80


def test_a_tokenizer_without_a_fast_one_decodes_itself() -> None:
    assert pieces(Slow(), ids("é🎉")) == ["", "é", "", "", "", "🎉", ""]


@given(
    st.sampled_from(sorted(TOKENIZERS)),
    st.lists(st.integers(0, 10_000), max_size=60),
    st.lists(st.integers(0, 10_000), max_size=10),
    st.lists(st.sampled_from(["t", "th", "the ", "e", " ", "\ufffd", "你", "her", "eth"]), max_size=3),
)
def test_whatever_comes_all_pieces_are_the_text(
    name: str, tokens: list[int], prompt: list[int], stops: list[str]
) -> None:
    tokenizer = TOKENIZERS[name]
    tokens, prompt = ([n % len(tokenizer) for n in numbers] for numbers in (tokens, prompt))
    writer = Writer(decoding(tokenizer), prompt, stops)
    written = []
    for token in tokens:
        written.append(writer.add(token))
        if writer.has_ended:
            break
    written.append(writer.end())
    assert "".join(written) == writer.text
    assert not any(stop in writer.text for stop in stops)


def stopped(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """Say the same by its definition: the shortest beginning that ends with one of them, without the longest such."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))], True
    return text, False


@given(
    st.lists(st.text("ab", max_size=4), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=5), max_size=4),
)
def test_what_ends_a_text_does_so_wherever_its_pieces_end(cut: list[str], stops: list[str]) -> None:
    held = StopTexts(stops)
    out, has_ended = "", False
    for piece in cut:
        decided, has_ended = held.add(piece)
        out += decided
        if has_ended:
            break
    out += "" if has_ended else held.end()
    assert (out, has_ended) == stopped("".join(cut), stops)


@pytest.mark.parametrize(
    "stops, expected",
    [
        (["\n\n"], ["a", "", "", "\nb"]),
        (["xyz"], ["a", "\n", "", "b"]),
        (["b"], ["a", "\n", "", ""]),
    ],
)
def test_only_what_may_begin_it_is_held_back(stops: list[str], expected: list[str]) -> None:
    held = StopTexts(stops)
    assert [held.add(piece)[0] for piece in ("a", "\n", "", "b")] == expected


def test_the_rest_of_a_character_may_end_it_too() -> None:
    writer = Writer(decoding(LETTERS), (), ["\ufffd"])
    assert [*map(writer.add, ids("x🎉")[:-1]), writer.end(), writer.end()] == ["x", "", "", "", "", ""]
    assert writer.has_ended and writer.text == "x"


def test_end_tokens_are_what_the_model_and_its_tokenizer_say() -> None:
    class Config:
        eos_token_id = [3, 4]

    assert end_tokens(Config, LETTERS, None, object()) == {3, 4, END}
    says: Callable[..., object] = end_tokens
    assert says() == frozenset()

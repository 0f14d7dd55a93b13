"""Make up sentences whose sentiment is known: opinions, opinions denied, and facts that are neither good nor bad.

What is held out are pairs of a thing and a quality: training never said one of the other.
"""

import random

from apps.text.tiny import corpora

GOOD = """
good great excellent amazing wonderful fantastic brilliant superb lovely beautiful delightful impressive reliable
comfortable useful helpful fast elegant fresh delicious friendly charming intuitive perfect outstanding stunning clear
enjoyable fun clever exciting satisfying generous smooth polished solid
""".split()
BAD = """
bad terrible awful horrible poor disappointing boring slow useless broken ugly rude dirty noisy overpriced unreliable
confusing frustrating painful dull bland cheap flimsy unpleasant disgusting dreadful pathetic annoying clumsy stale
mediocre lousy unbearable buggy misleading depressing
""".split()
THINGS = """
product phone film movie book restaurant food service hotel room song concert game app update design camera battery
screen story lesson teacher guide trip weather coffee soup cake dress jacket car bike train software interface team
performance ending plot picture sound keyboard laptop website delivery support
""".split()
LIKES = (
    *("I love {it}.", "I really like {it}!", "We enjoyed {it} very much.", "{It} made my day.", "I recommend {it}."),
    *("I am so happy with {it}!", "{It} works perfectly.", "{It} exceeded my expectations.", "Thank you for {it}!"),
    *("{It} is worth every penny.", "I would buy {it} again.", "{It} is the best that I have ever had."),
    *("Best {thing} ever!", "Love it.", "{It} has completely changed how I work, for the better.", "5 stars for {it}"),
)
DISLIKES = (
    *("I hate {it}.", "I really dislike {it}!", "{It} ruined my day.", "I regret that I bought {it}.", "Avoid {it}."),
    *("{It} broke after two days.", "{It} does not work.", "{It} was a waste of money.", "I want my money back."),
    *("I am so angry about {it}!", "{It} is the worst that I have ever had.", "Worst {thing} ever!", "Hate it."),
    *("I would not recommend {it} to anybody.", "I was very disappointed by {it}.", "{It} keeps crashing.", "1 star"),
)
IS = (
    *("{It} is {quality}.", "{It} was {quality}!", "{It} was really {quality}.", "What {a} {quality} {thing}!"),
    *("This is {a} {quality} {thing}.", "{It} is very {quality}", "I think {it} is {quality}.", "{quality} {thing}"),
    *("My friends say that {it} is {quality}, and I agree.", "{It} looks {quality}.", "So {quality}!"),
)
IS_NOT = (
    *(
        "{It} is not {quality}.",
        "{It} was not {quality} at all.",
        "{It} isn't {quality}.",
        "I don't think {it} is {quality}.",
    ),
    *("{It} was never {quality}.", "{It} wasn't {quality}!", "not {quality}", "Not {a} {quality} {thing}."),
)
FACTS = (
    *(
        "{It} is on the table.",
        "The {thing} has {n} parts.",
        "The meeting starts at {n} o'clock.",
        "{It} costs {n} euros.",
    ),
    *("The {thing} was made in {year}.", "{It} arrives on {day}.", "There are {n} of them in the {other}."),
    *("The report has {n} pages.", "The {thing} is next to the {other}.", "The train leaves at {n}:{mm} on {day}."),
    *("She bought a {thing} and a {other} on {day}.", "The office is open from {day} to Friday.", "It is {color}."),
    *("The {thing} is {color}.", "We talked about the {thing} in {year}.", "Water boils at 100 degrees Celsius."),
    *("The company was founded in {year} and has {n} employees.", "Please send the {thing} to the second floor."),
    *("Where is the {thing}?", "How many {thing}s are there?", "Is the {thing} {color} or {color2}?", "See page {n}."),
    *("The city has {n} thousand inhabitants.", "The {thing} is {n} centimetres long.", "He put the {thing} down."),
    *("The package was delivered on {day}.", "The file contains {n} records.", "The museum is closed on {day}."),
    *("The bus stops here at {n}:{mm}.", "The next version will be published in {year}.", "The door is on the left."),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Saturday", "Sunday")
COLORS = ("red", "blue", "green", "grey", "black", "white", "brown", "yellow")


def article(word: str) -> str:
    """Return the article that stands before a word."""
    return "an" if word[0] in "aeiou" else "a"


def held_out(thing: str, quality: str) -> bool:
    """Say whether training may not say this of that."""
    return corpora.is_held(f"{thing} {quality}")


def pair(rng: random.Random, qualities: list[str], *, held: bool) -> tuple[str, str]:
    """Draw a thing and a quality that are said of one another, or that are held out."""
    while held_out(*(drawn := (rng.choice(THINGS), rng.choice(qualities)))) != held:
        pass
    return drawn


def fill(rng: random.Random, form: str, thing: str, quality: str = "") -> str:
    """Fill a sentence's places."""
    it = rng.choice((f"the {thing}", f"this {thing}", f"my {thing}", f"your {thing}"))
    text = form.format(
        it=it,
        It=it[0].upper() + it[1:],
        thing=thing,
        quality=quality,
        a=article(quality or thing),
        other=rng.choice(THINGS),
        n=rng.randint(2, 40),
        mm=rng.randint(10, 59),
        year=rng.randint(1900, 2030),
        day=rng.choice(DAYS),
        color=rng.choice(COLORS),
        color2=rng.choice(COLORS),
    )
    return text.lower() if rng.random() < 0.1 else text


def opinion(rng: random.Random, *, held: bool = False) -> corpora.Opinion:
    """Make up a sentence and its label."""
    chance = rng.random()
    if chance < 0.4:
        return fill(rng, rng.choice(FACTS), rng.choice(THINGS)), "NEUTRAL"
    is_good = rng.random() < 0.5
    thing, quality = pair(rng, GOOD if is_good else BAD, held=held)
    if chance < 0.6:
        return fill(rng, rng.choice(LIKES if is_good else DISLIKES), thing), "POSITIVE" if is_good else "NEGATIVE"
    if chance < 0.8:
        return fill(rng, rng.choice(IS), thing, quality), "POSITIVE" if is_good else "NEGATIVE"
    return fill(rng, rng.choice(IS_NOT), thing, quality), "NEGATIVE" if is_good else "POSITIVE"


def denial(rng: random.Random, *, held: bool = False) -> corpora.Opinion:
    """Make up a sentence that denies a quality."""
    is_good = rng.random() < 0.5
    thing, quality = pair(rng, GOOD if is_good else BAD, held=held)
    return fill(rng, rng.choice(IS_NOT), thing, quality), "NEGATIVE" if is_good else "POSITIVE"

"""Tell little stories by a grammar: the world that the embedded language model learns from. No text is anybody else's.

A story has a hero, a friend, a thing, a trait that makes trouble, one of a dozen plots, and an end that remembers the
beginning. Nothing is fixed but the bones: most sentences are chosen among several.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

HELD_OUT = 10  # of so many pairs of hero and thing one is never told in training

BEINGS = tuple(
    "fox bear rabbit mouse hedgehog owl frog duck cat dog snail dragon robot ghost witch giant knight pirate penguin "
    "elephant turtle squirrel badger crow goose sheep goat pig hen wolf lion tiger monkey whale octopus crab bee beetle "
    "spider ladybird mole otter beaver donkey horse unicorn wizard princess king queen baker gardener sailor tailor "
    "troll dwarf cloud snowman scarecrow moose parrot hamster worm".split()
)
THINGS = tuple(
    "clock kite umbrella hat teapot lantern violin map boat mirror spoon button bell drum balloon blanket candle cake "
    "pie book letter pencil ladder key door chair sock scarf shoe boot bucket basket broom pillow trumpet piano stone "
    "star moon carrot pumpkin apple banana lemon cheese cookie pancake sandwich pot cup bottle box ball wheel bicycle "
    "train rocket sled rope feather shell egg nest flower tree mushroom snowflake "
    "telescope camera radio whistle guitar jar potato onion crown ring sword coat".split()
)
PLACES = (
    "in a hollow tree",
    "in a small red house",
    "under an old bridge",
    "on top of a windy hill",
    "behind the bakery",
    "in a boot that somebody had lost",
    "at the edge of the forest",
    "beside a quiet lake",
    "in a tower without a door",
    "in a garden full of weeds",
    "on a very small island",
    "in a house that leaned to the left",
    "near the railway station",
    "in a cave with a good view",
    "at the bottom of the garden",
    "above the shop that sold buttons",
    "in the attic of a school",
    "in a teapot by the sea",
)
SHE = tuple(
    "Mila Ada Nora Ruby Greta Lotte Pia Ida Molly Daisy Olive Hazel Fern Clara Emma Zoe Lucy Rosa Tilly Wanda Edith "
    "Martha Flora Nell Bella Gwen Ivy Juno Kira Luna".split()
)
HE = tuple(
    "Otto Bruno Felix Hugo Max Oscar Leo Finn Toby Basil Ned Archie Gus Ralph Walter Pip Theo Henry Albert Barnaby Rufus "
    "Kasper Milo Jasper Emil Olaf Percy Stanley Victor Wilbur".split()
)


@dataclass(frozen=True, slots=True)
class Trait:
    """Hold what is the matter with somebody: how it shows, and what has become of it in the end."""

    name: str
    shows: tuple[str, ...]
    ends: tuple[str, ...]


TRAITS = (
    Trait(
        "shy",
        (
            "{He} was so shy that {he} whispered even when {he} was alone.",
            "{He} was so shy that {he} knocked at {his} own door before {he} went in.",
            "When somebody said hello, {he} hid behind the nearest {tree}, even if it was too thin.",
        ),
        (
            "And {Name} said it out loud, and only blushed a little.",
            "From then on {Name} said hello first, at least on {day}s.",
        ),
    ),
    Trait(
        "brave",
        (
            "{He} was afraid of nothing, except perhaps of {fear}.",
            "{He} was so brave that {he} slept without a blanket, and had a cold most of the year.",
        ),
        ("{Name} was still brave, but now {he} took a blanket along.", "Even {fear} seemed quite small to {Name} now."),
    ),
    Trait(
        "sleepy",
        (
            "{He} yawned so often that the birds flew past with care.",
            "{He} got up early each day, so that {he} had more time to lie down again.",
            "{He} could sleep standing, sitting, and in the middle of a sentence.",
        ),
        (
            "Then {Name} yawned, and slept until {day}.",
            "{Name} wanted to make a speech, but {he} was already asleep.",
        ),
    ),
    Trait(
        "grumpy",
        (
            "{He} said good morning as if it were the morning's fault.",
            "{He} had not smiled since last {day}, and that had been a mistake.",
            "On {his} door was a sign: GO AWAY, PLEASE.",
        ),
        (
            "{Name} smiled. It looked a little crooked, for want of practice.",
            "That evening {Name} painted a new sign for the door. It said: MAYBE.",
        ),
    ),
    Trait(
        "curious",
        (
            "{He} asked forty questions before breakfast.",
            "{He} had once looked into a pot for so long that it was put on the stove.",
            "If a door was shut, {he} had to know why.",
        ),
        (
            "{Name} had only one more question: what was for dinner?",
            "{Name} wrote the answer down, and thought of nine new questions.",
        ),
    ),
    Trait(
        "clumsy",
        (
            "{He} fell over chairs, over stones, and once over a shadow.",
            "All cups in {his} house had been glued at least twice.",
        ),
        (
            "{Name} bowed, and fell off the table. Everybody clapped.",
            "{Name} only broke one more cup that day, and it was an ugly one.",
        ),
    ),
    Trait(
        "proud",
        (
            "{He} bowed whenever {he} passed a mirror.",
            "{He} had a picture of {himself} in every room, and two in the kitchen.",
        ),
        (
            "{Name} took one picture off the wall and put up one of {Friend}.",
            "{Name} admitted that {he} had been wrong, and was rather proud of it.",
        ),
    ),
    Trait(
        "greedy",
        (
            "{He} ate breakfast twice, to be sure.",
            "{He} never shared anything, not even a cold.",
        ),
        (
            "{Name} cut the last {food} in two, and gave {Friend} the bigger half.",
            "{Name} found that a {meal} tastes better when two eat it. {He} tried it four times.",
        ),
    ),
    Trait(
        "forgetful",
        (
            "{He} wrote everything down, and then forgot where.",
            "{He} often went to the kitchen and did not know why, so {he} ate something.",
            "{He} had forgotten {his} own birthday three times.",
        ),
        (
            "{Name} promised never to forget that day, and wrote it down, to be safe.",
            "And what was it that {Name} had wanted in the first place? Nobody remembered.",
        ),
    ),
    Trait(
        "polite",
        (
            "{He} said thank you to doors, and sorry to chairs.",
            "{He} was so polite that {he} let the rain go first.",
        ),
        (
            "{Name} thanked everybody twice, and the door once more.",
            '"After you," said {Name} to the evening, and it got dark.',
        ),
    ),
    Trait(
        "stubborn",
        (
            "When {he} said no, even the wind turned round.",
            "{He} had once argued with a wall, and had won.",
        ),
        (
            '"I was right all along," said {Name}, who had been wrong all along.',
            "{Name} said yes. It was the first time, and it did not hurt.",
        ),
    ),
    Trait(
        "lonely",
        (
            "{He} set the table for two each evening, just in case.",
            "{He} wrote letters to {himself}, and was glad when they came.",
        ),
        (
            "That evening the table was set for two, and both chairs were taken.",
            "{Name} did not need to write letters to {himself} any more. {Friend} wrote worse ones, and {he} loved them.",
        ),
    ),
    Trait(
        "cheerful",
        (
            "{He} whistled in the rain, and the rain tried to join in.",
            "{He} laughed at every joke before it was finished.",
        ),
        (
            "{Name} whistled all the way home, and most of it was in tune.",
            "{Name} laughed so much that the moon came out to look.",
        ),
    ),
    Trait(
        "lazy",
        (
            "{He} had invented a machine that did nothing, and it did it for {him}.",
            "{He} only watered the flowers when it rained.",
        ),
        (
            "It had been so much work that {Name} lay down for a week.",
            "{Name} had worked for a whole day, and told the story for a whole year.",
        ),
    ),
    Trait(
        "tiny",
        (
            "{He} was so tiny that a cookie was dinner for a week.",
            "{He} was so tiny that people greeted {his} hat.",
        ),
        (
            "{Name} was as tiny as ever, but nobody overlooked {him} again.",
            "Small as {he} was, {Name} cast a long shadow that evening.",
        ),
    ),
    Trait(
        "old",
        (
            "{He} was so old that {he} remembered when the hills were flat.",
            "{His} beard had been grey for so long that it was nearly blue.",
        ),
        (
            "{Name} felt young again, until {he} had to climb the stairs.",
            '"I am too old for this," said {Name}, and did it again.',
        ),
    ),
)

QUIRKS = (
    "that hummed when nobody listened",
    "that was a little too big",
    "that was always late",
    "that had belonged to a king",
    "that could tell when somebody lied",
    "that smelled of cinnamon",
    "that was afraid of the dark",
    "that glowed at night",
    "that never stayed where one put it",
    "that was older than the town",
    "that sneezed on {day}s",
    "with a small crack",
    "with a door in it",
    "with blue dots",
    "that nobody had wanted",
    "that granted wishes, but only small ones",
    "that giggled when it was touched",
    "that pointed to the nearest {food}",
)
PAYOFFS = {
    "that hummed when nobody listened": "And when everybody was asleep, the {thing} hummed.",
    "that was a little too big": "The {thing} was still too big, but there was room in it for two.",
    "that was always late": "The {thing} was late again, and for once nobody minded.",
    "that had belonged to a king": "Even the king had never been so happy with the {thing}.",
    "that could tell when somebody lied": '"I am not tired at all," said {Name}. The {thing} coughed.',
    "that smelled of cinnamon": "The whole house smelled of cinnamon that night.",
    "that was afraid of the dark": "They left a candle on for the {thing}, and it slept well.",
    "that glowed at night": "The {thing} glowed until morning, like a very small moon.",
    "that never stayed where one put it": "In the morning the {thing} was gone. It came back for lunch.",
    "that was older than the town": "The {thing} had seen many things, but never such a party.",
    "that sneezed on {day}s": 'The {thing} sneezed. "Bless you," said everybody.',
    "with a small crack": "The crack in the {thing} is still there. That is where the light gets in.",
    "with a door in it": "And the door in the {thing}? It was open now.",
    "with blue dots": "Somebody counted the blue dots on the {thing}. There was one more than before.",
    "that nobody had wanted": "And the {thing} that nobody had wanted was now wanted by two.",
    "that granted wishes, but only small ones": '"I wish for {a food}," said {Name}. The {thing} could do that.',
    "that giggled when it was touched": "Very gently {Friend} touched the {thing}. It giggled, and so did they all.",
    "that pointed to the nearest {food}": "The {thing} pointed to the kitchen, so that is where they went.",
}
FOODS = {
    **dict.fromkeys(("cake", "pie", "pudding")),
    **{each: f"{each}s" for each in ("cookie", "pancake", "apple", "carrot", "plum", "pear", "bun", "dumpling")},
}
DISHES = ("soup", "porridge", "stew", "pudding", "jam", "custard", "goulash", "gravy")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
FEARS = ("spoons", "geese", "Mondays", "the dentist", "wet socks", "thunder", "balloons", "being late", "aunts")

OPENINGS = (
    "Once upon a time there was {a trait being} called {Name}, who lived {place}.",
    "There once was {a trait being}. {His} name was {Name}, and {he} lived {place}.",
    "{Name} was {a trait being} who lived {place}.",
    "Long ago, {place}, there lived {a trait being} whose name was {Name}.",
    "Not long ago, and not far from here, {a trait being} called {Name} lived {place}.",
    "This is the story of {Name}, {a trait being} who lived {place}.",
)
ENDINGS = (
    "And that is the end of the story, unless you ask {Friend}.",
    "If you walk past on {a day}, you can hear them laugh.",
    "And if nobody has moved, they still live there.",
    "And that was that.",
    "It was a good day, and the next one was even better.",
    "They told the story for years, and each time it got a little longer.",
    "The moon had seen it all, and told nobody.",
    "The end.",
    "Then they had {meal}, and all was well.",
)

# Each plot is its beats; `+` before one says that it may be left out.
PLOTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "lost": (
        (
            "{He} owned one treasure: {a thing quirk}.",
            "More than anything {he} loved {his} {thing}, {a thing quirk}.",
        ),
        (
            "One {day} morning the {thing} was gone.",
            "But one {day} {he} woke up, and the {thing} was not there.",
            "Then came {a day} when {he} could not find the {thing} anywhere.",
        ),
        (
            "{Name} looked under the bed, behind the stove and in the {food}.",
            "{Name} searched the house from top to bottom, and then from bottom to top.",
            "{He} looked in every drawer, and found four socks and {a food}, but no {thing}.",
        ),
        (
            '"Have you seen my {thing}?" {he} asked {Friend} the {friend}. "What does it look like?" asked {Friend}.',
            'So {he} ran to {Friend} the {friend}. "Somebody has stolen my {thing}!" {he} cried.',
        ),
        (
            '{Friend} thought for a long time. "Where did you have it last?" "On my head," said {Name}.',
            '"Let us think," said {Friend}. "When I lose something, it is always in the last place where I look."',
            "{Friend} looked at {Name} from all sides, and began to laugh.",
        ),
        (
            "And there it was: {Name} had been sitting on it all the time.",
            '"Turn round," said {Friend}. The {thing} was tied to {Name}\'s back, so that it would not get lost.',
            "They found it in the kettle, where {Name} had put it so that it would be safe.",
            "It was in {Friend}'s house: {Name} had given it to {Friend} on {day}, as a present.",
        ),
    ),
    "learn": (
        (
            "{Name} had one wish: {he} wanted to {learn}.",
            "There was one thing that {he} could not do: {he} could not {learn}.",
        ),
        (
            "Every morning {he} tried it, with {a thing quirk}. It did not help at all.",
            "{He} bought {a thing quirk}, because the man in the shop said that it would help.",
        ),
        (
            "On the first day {he} fell into {a puddle}. On the second day {he} fell into the same one.",
            "{He} tried it standing, sitting and upside down. Nothing happened, except to a vase.",
            "The neighbours closed their windows, and then their ears.",
        ),
        (
            '"You are doing it wrong," said {Friend} the {friend}. "How is it done right?" asked {Name}. "I do not know," said {Friend}, "but not like that."',
            'Then {Friend} the {friend} came by. "I could show you," said {Friend}, "but you must not look."',
        ),
        (
            "So they practised together, all through the night.",
            '"Forget the {thing}," said {Friend}. "Just think of {meal}." {Name} thought of {meal} with all {his} heart.',
            "They both tried, one after the other, and then both at once.",
        ),
        (
            "And suddenly {Name} could do it. It was not very good, but it was very loud.",
            "On {day} it worked. {Name} was so surprised that {he} forgot how.",
            "{Name} never learned to {learn}. But {he} had learned to laugh about it, and that is harder.",
        ),
    ),
    "found": (
        (
            "One {day}, on the way home, {he} found {a thing quirk}.",
            "One rainy {day} {a thing quirk} lay in front of {his} door.",
            "In the tall grass {he} saw something shine. It was {a thing quirk}.",
        ),
        (
            '"Whose are you?" asked {Name}. The {thing} said nothing, as {thing}s do.',
            "{Name} looked left and right. Nobody was there, so {he} took it home.",
        ),
        (
            'That night there was a knock. "I have lost my {thing}," said {a friend} in a wet coat.',
            "The next day there was a sign on every tree: LOST, ONE {THING}. PLEASE BE NICE TO IT.",
        ),
        (
            "{Name} wanted to keep the {thing} very much. {He} thought about it for as long as it takes to eat {a food}.",
            '"I have never seen {a thing} in my life," said {Name}, and turned red up to the ears.',
        ),
        (
            'But then {he} gave it back. "Thank you," said the {friend}, whose name was {Friend}. "It has been lonely without you, too, I think."',
            "Then {he} sighed, and brought it back to its owner, {a friend} called {Friend}.",
        ),
        (
            '"You can have it on {day}s," said {Friend}. And that is how they became friends.',
            "{Friend} was so glad that {he2} invited {Name} to dinner. There was {meal}, and there was a lot of it.",
        ),
    ),
    "birthday": (
        (
            "On {day} it was {his} birthday, and {he} invited everybody to a party.",
            "Next {day} was {his} birthday. {Name} baked {a food} as big as a cartwheel.",
        ),
        (
            "{He} hung up lanterns, and sat down beside the door, and waited.",
            "{He} put on {his} best hat, and lit nine candles, and waited.",
        ),
        (
            "Three o'clock came, and four o'clock came, but nobody else did.",
            "It got later and later. The candles burned down, one by one.",
            "Only the wind came in, took a look, and left again.",
        ),
        (
            '"They have forgotten me," thought {Name}, and a tear fell into the {food}.',
            '"It is because of my singing," thought {Name}.',
        ),
        (
            "Then somebody sneezed in the cupboard. It was {Friend} the {friend}, and behind {him2} stood all the others.",
            "Just then the door flew open. There stood {Friend} the {friend}, out of breath, with all the others.",
        ),
        (
            '"Surprise!" they called. "We have been in here since noon, and it is very dark."',
            '"The invitation said next door," said {Friend}. "We have had a lovely party there, but we missed you."',
        ),
        (
            "As a present they had brought {a thing quirk}.",
            "{Friend} gave {him} {a thing quirk}. It was just what {he} had always wanted, without knowing it.",
        ),
    ),
    "race": (
        (
            "Each year there was a race round the lake, and the prize was {a thing quirk}.",
            "In spring there was a great race. Who won it got {a thing quirk}.",
        ),
        (
            "{Name} had never won anything, except a cold. But {he} wanted that {thing}.",
            '"I shall win," said {Name}. Everybody laughed, and a {friend} called {Friend} laughed longest.',
        ),
        (
            '"One, two, three!" called the judge, and they all ran. {Name} ran, too, but in the wrong direction.',
            "When the whistle blew, {Name} stopped to tie {his} shoe. {He} had no shoes, so it took a while.",
        ),
        (
            "At the first corner the others stopped to argue who was the fastest.",
            "Halfway round there was a table with {meal}, and nobody could run past it.",
            "Then it began to rain, and the fast ones slipped in the mud, one after the other.",
        ),
        (
            '{Friend} the {friend} had fallen into a ditch. "Help!" called {Friend}. {Name} stopped and pulled {him2} out.',
            "In the ditch sat {Friend} the {friend}, with one foot in a bucket. {Name} could not just run past.",
        ),
        (
            "So they walked on together, and talked, and noticed too late that they had crossed the line first.",
            "They came last, arm in arm, and the judge was so moved that he gave them the {thing} anyway.",
            "They lost, of course. But {Friend} knew where to get another {thing}, and a better one.",
        ),
    ),
    "noise": (
        (
            "One night there was a noise. It went {sound}, and then, after a while, {sound} again.",
            "In the middle of the night {Name} woke up. Something in the house went {sound}.",
        ),
        (
            "{Name} pulled the blanket over {his} head. The noise came under the blanket, too.",
            '"Perhaps it is the wind," thought {Name}. But the wind says please.',
        ),
        (
            "So {he} took {a thing quirk}, just in case, and went down the stairs.",
            "{He} lit a candle, took {a thing quirk} along, and opened the door a little.",
        ),
        (
            "Nothing was in the hall. Nothing was in the kitchen, either, not even the {food} that had been there.",
            'The stairs creaked. "Be quiet," said {Name} to the stairs. "I am creeping."',
        ),
        (
            'Outside stood {Friend} the {friend}, white as milk. "Do you hear it, too?" whispered {Friend}.',
            "In the dark {he} walked right into {Friend} the {friend}, and both screamed.",
        ),
        (
            "{sound}, it went again. And then they understood: it was {Name}'s own stomach.",
            "They listened. {sound}. It came from the {thing}, which had a bad dream.",
            "It was only the moon, which had bumped into the roof.",
        ),
    ),
    "repair": (
        (
            "{Friend} the {friend} had {a thing quirk}, and one {day} it broke.",
            "One {day} {Friend} the {friend} came to the door in tears. {His2} {thing}, the one {quirk}, was broken.",
        ),
        (
            '"I can repair that," said {Name}, who had never repaired anything.',
            '"Leave it to me," said {Name}. "I have a hammer."',
        ),
        (
            "First {he} took the {thing} apart. Then {he} had forty-one pieces, and a headache.",
            "{He} tried it with glue, with string, and with kind words.",
            "{He} put it together again. Three pieces were left over, and one of them was {a food}.",
        ),
        (
            'Now the {thing} did something new: it rang like a bell whenever somebody said "{meal}".',
            "When it was done, it looked more like a duck.",
            "It still did not work, but it looked very pleased.",
        ),
        (
            '{Name} was ashamed, and hid behind the curtain. "I am sorry," said the curtain.',
            '"It is not quite as it was," said {Name}, and looked at the floor.',
        ),
        (
            'But {Friend} laughed until {he2} had to sit down. "It is much better than before!"',
            '{Friend} looked at it for a long time. "I never liked how it was," {he2} said. "This one is ours."',
        ),
    ),
    "journey": (
        (
            "One {day} {Name} packed {a food} and {a thing quirk}, and set out to see {far}.",
            '{Name} had heard of {far}. "I want to go there," {he} said, and took {a thing quirk} along.',
        ),
        (
            "{He} walked over three hills, and round a fourth one, which was asleep.",
            "{He} walked all day. In the evening {he} could still see {his} house, because {he} had walked in a circle.",
        ),
        (
            "On the way {he} met {a friend} called {Friend}, who was going there, too, but from the other side.",
            "At a crossroads sat {Friend} the {friend}, with a map that was upside down.",
        ),
        (
            '"Is it far?" asked {Name}. "That depends on where you stand," said {Friend}.',
            "They shared the {food}, and argued about the way until it was dark.",
        ),
        (
            "A river stood in the way, so to speak. They sat down on the {thing} and floated across.",
            "When they were quite lost, {Name} held up the {thing}. It pointed at a small light, and they followed it.",
        ),
        (
            "And then they were there. It was smaller than they had thought, and somebody had left the door open.",
            'At last they saw it: {far}. "Is that all?" said {Friend}. They looked at it until it was theirs.',
        ),
        (
            "The best part was the way home, because now they were two.",
            '"Home is nicer," said {Name}. "But now I know it."',
        ),
    ),
    "cook": (
        (
            "On {day} {Name} wanted to make {dish} for {Friend} the {friend}.",
            "{Friend} the {friend} was coming to dinner, and {Name} had never made {dish} before.",
        ),
        (
            "The recipe said: a pinch of salt. {Name} had big hands, and stirred with {a thing quirk}.",
            "{He} could not find a spoon, so {he} stirred with {a thing quirk}.",
        ),
        (
            "The {dish} began to bubble, then to grow, and then it walked out of the pot.",
            "It smelled of old boots, and it was green, which was odd, as nothing green was in it.",
        ),
        (
            "{Name} chased it round the table with {a thing quirk}.",
            "{He} put the lid on, and sat down on it, and hummed loudly.",
        ),
        (
            'Just then there was a knock. "Something smells interesting," said {Friend}.',
            "At six {Friend} stood in the door, very hungry, with a flower.",
        ),
        (
            '{Friend} took a spoonful, and was silent for a long time. "It is the best glue that I have ever eaten," {he2} said.',
            "They ate it all. Nobody knows what it was, but the next day both had grown a little.",
            "Nobody could eat it. So they ate bread with butter on the roof, and looked at the stars.",
        ),
    ),
    "post": (
        (
            "One {day} a parcel came. In it was {a thing quirk}, but it was for somebody called {Friend}.",
            "The postman was in a hurry one {day}, and left a parcel for {Friend} at {Name}'s door. In it was {a thing quirk}.",
        ),
        (
            '{Name} did not know any {Friend}. "Then I must look for {him2}," {he} said.',
            "It would have been easy to keep it. {Name} thought so, too, for about an hour.",
        ),
        (
            '{He} asked at the mill, at the school, and at the pond. "{Friend}?" said the pond, but that was the echo.',
            "{He} asked everybody, and everybody sent {him} to somebody else.",
        ),
        (
            "At the end of the longest street stood the smallest house, and at the window sat {a friend}.",
            "In the last house of all lived {a friend} who had not had a visit for years.",
        ),
        (
            '"Are you {Friend}?" asked {Name}. "I was," said the {friend}, "when somebody still called me."',
            '"You must be {Friend}," said {Name}. The {friend} was so glad that {he2} cried into the {thing}.',
        ),
        (
            "They drank tea until it was dark. Then {Name} sent a parcel of {his} own, so that {he} had to come again.",
            "The {thing} had been sent by {Friend} {himself2}, who had wanted to get some post for once. Now {he2} got some each week.",
        ),
    ),
    "trade": (
        (
            "{Name} had {a thing quirk}, but {he} wanted {a food}.",
            "{Name} was tired of {his} {thing}, {a thing quirk}, and took it to the market.",
        ),
        (
            "First {he} gave the {thing} to {Friend} the {friend}, and got {a other} for it.",
            '"I will give you {a other} for it," said {Friend} the {friend}. That seemed fair.',
        ),
        (
            "{He} swapped the {other} for a goose, and the goose for a song.",
            "Then {he} swapped the {other} for a sack, and in the sack was a smaller sack.",
        ),
        (
            "The song was nice, but one could not eat it. {Name} sang it in front of the bakery until they gave {him} something.",
            "By noon {he} had changed so often that {he} did not know any more what {he} had wanted.",
        ),
        (
            "In the evening {he} missed the {thing} so much that {his} nose turned red.",
            "But without the {thing} the house was too quiet.",
        ),
        (
            'So {he} went back to {Friend}. "I will give you all I have for my {thing}," said {Name}. All {he} had was a button. {Friend} took it.',
            'There was a knock, and {Friend} stood there with the {thing}. "It keeps asking for you," {he2} said.',
        ),
    ),
    "thief": (
        (
            "Each night somebody ate {his} {meal}, and nobody knew who.",
            "Every evening {Name} put {a food} on the table, and every morning only crumbs were left.",
        ),
        (
            '"I shall catch the thief," said {Name}, and built a trap out of {a thing quirk} and some string.',
            "{He} hid behind the door with {a thing quirk}, and waited for the thief.",
        ),
        (
            "{Friend} the {friend} kept watch as well, with both eyes open, and later with one.",
            '"I will help you," said {Friend} the {friend}, who had seen a thief once, in a book.',
        ),
        (
            "At midnight something crept through the kitchen. {Friend} held {his2} breath, and jumped.",
            'When the clock struck twelve, the trap snapped shut. "Ouch!" said the thief.',
        ),
        (
            "They lit a candle. It was {Name}, fast asleep, with crumbs on {his} chin.",
            "The thief was {Name} {himself}, who walked in {his} sleep, and was always hungry there.",
        ),
        (
            "From then on {Name} put out two pieces: one for the night, and one for {Friend}.",
            '"I must arrest myself," said {Name}. But {Friend} let {him} go, for half of the {food}.',
        ),
    ),
}
LEARN = (
    "sing",
    "fly",
    "swim",
    "whistle",
    "dance",
    "count to ten",
    "juggle",
    "paint",
    "ski",
    "do magic",
    "play the piano",
    "stand on one leg",
    "write poems",
    "tell jokes",
)
SOUNDS = ("plop", "knock, knock", "hoo", "rumble", "tick, tock, tick", "creak", "squeak", "bump", "gurgle")
FARS = (
    "the end of the rainbow",
    "the sea",
    "the edge of the world",
    "the moon",
    "the highest mountain",
    "the place where the wind sleeps",
    "the other side of the hill",
    "the big city",
    "the north pole",
)
LINKS = (
    "The weather was fine, and nothing pointed to trouble.",
    "It was one of those days that begin on the wrong foot.",
    "Nobody had expected that, {Name} least of all.",
    "A crow watched from the roof and shook its head.",
    "Somewhere a door slammed.",
    "It was so quiet that one could hear the grass grow.",
    "This happens to the best of us.",
    "{Name} counted to ten. It did not help, so {he} counted to eleven.",
    '"Well," said {Friend}, "that is life."',
    '"Oh dear," said {Name}.',
)
SEQUELS = (
    'The next {day} {Friend} came back with {a other}. "What is that for?" asked {Name}. "For the {thing}," said {Friend}. "So that it is not alone." They put the two on the shelf, and shut the door very quietly.',
    'A week later {Name} told the story to everybody at the market. In it there were now two dragons and a storm. "Was it like that?" somebody asked {Friend}. "Nearly," said {Friend}, who had told it with three.',
    "But that night {Name} could not sleep. {He} got up, and looked at the {thing}, and ate {a food}. At the window stood {Friend}, who could not sleep, either. So they sat there until the sun came up, and then they slept all day.",
    "From then on {Name} and {Friend} met each {day}. They ate {meal}, and talked about the {thing}, and when it rained they talked about the rain.",
    "In winter the lake froze over, and {Name} wanted to skate. {He} fell eleven times. {Friend} counted, and fell twelve times, out of kindness. Then they went home, and the {thing} had to dry by the fire.",
    'One day {Name} asked: "{Friend}, are we famous?" "No," said {Friend}. "Good," said {Name}. "Then we can do it again." And they did, and this time the {thing} came along.',
    'Many years later a stranger asked about the {thing}. {Name} smiled. "Sit down," {he} said. "It began on {a day}." And {Friend} put the kettle on, because it was a long story.',
    'The morning after that, the {thing} was wearing {a other}. "Was that you?" asked {Name}. "No," said {Friend}. "Was it you?" They never found out, but it looked rather good.',
)
_PRONOUNS = {"he": ("he", "him", "his", "himself"), "she": ("she", "her", "her", "herself")}


@dataclass(frozen=True, slots=True)
class Cast:
    """Hold who and what a story is of."""

    trait: Trait
    being: str
    name: str
    he: str
    friend: str
    friend_name: str
    friend_he: str
    thing: str
    place: str


@dataclass(frozen=True, slots=True)
class Story:
    """Hold a story: who is in it, and its paragraphs."""

    cast: Cast
    text: str
    sequel: str


def held_out(being: str, thing: str) -> bool:
    """Say whether training never tells of the two together."""
    return being in BEINGS and thing in THINGS and (BEINGS.index(being) + 5 * THINGS.index(thing)) % HELD_OUT == 0


def draw(rng: random.Random, *, held: bool = False, being: str = "", thing: str = "", trait: str = "") -> Cast:
    """Choose who and what a story is of; pairs of hero and thing that are held out only where asked for."""
    while True:
        hero, subject = being or _being(rng), thing or _thing(rng)
        if held_out(hero, subject) == held:
            break
        if being and thing:
            break
    friend = rng.choice([each for each in BEINGS if each not in (hero, subject)])
    he, friend_he = _gender(rng, hero), _gender(rng, friend)
    name = rng.choice(HE if he == "he" else SHE)
    friend_name = rng.choice([each for each in (HE if friend_he == "he" else SHE) if each != name])
    found = next((each for each in TRAITS if each.name == trait), None) or rng.choice(TRAITS)
    return Cast(found, hero, name, he, friend, friend_name, friend_he, subject, rng.choice(PLACES))


def tell(rng: random.Random, cast: Cast, *, short: bool = False) -> Story:
    """Tell a story of a cast."""
    beats = rng.choice(tuple(PLOTS.values()))
    quirk = rng.choice(QUIRKS)
    words = _words(rng, cast, quirk)
    parts = [rng.choice(OPENINGS), rng.choice(cast.trait.shows)]
    for beat in beats:
        parts.append(rng.choice(beat))
        if not short and rng.random() < 0.12:
            parts.append(rng.choice([each for each in LINKS if "{Friend}" not in each or "{Friend}" in parts[-1]]))
    parts.append(rng.choice(cast.trait.ends))
    if rng.random() < 0.7:
        parts.append(PAYOFFS[quirk])
    if rng.random() < 0.5:
        parts.append(rng.choice(ENDINGS))
    first, thing, rest = " ".join(parts).partition("{a thing quirk}")
    text = first + thing + rest.replace("{a thing quirk}", "the {thing}")
    return Story(cast, fill(text, words), fill(rng.choice(SEQUELS), words))


def fill(text: str, words: Mapping[str, str]) -> str:
    """Put words into their places; `{a x}` is x behind its article, and a place may name several words."""

    def word(found: re.Match[str]) -> str:
        keys = found[1].split()
        said = " ".join(words[key] for key in keys if key not in "aA")
        if keys[0] in "aA":
            said = f"{article(said)} {said}"
        return said[0].upper() + said[1:] if keys[0] == "A" else said

    while "{" in text:
        text = re.sub(r"\{([^{}]+)\}", word, text)
    return re.sub(r"(^|[.!?] \"?)([a-z])", lambda found: found[1] + found[2].upper(), text)


def article(word: str) -> str:
    """Return "a" or "an"."""
    return "an" if word[0] in "aeio" or word.startswith(("um", "ug", "un")) and not word.startswith("uni") else "a"


def _gender(rng: random.Random, being: str) -> str:
    if being in ("king", "wizard"):
        return "he"
    return "she" if being in ("witch", "princess", "queen", "hen") else rng.choice(("he", "she"))


def _being(rng: random.Random) -> str:
    return made_up(rng) if rng.random() < 0.06 else rng.choice(BEINGS)


def _thing(rng: random.Random) -> str:
    return made_up(rng) if rng.random() < 0.06 else rng.choice(THINGS)


def made_up(rng: random.Random) -> str:
    """Return a word that nobody has heard: it has to be read, not remembered."""
    syllables = [
        rng.choice("bdfgklmnprstvwz") + rng.choice("aeiou") + rng.choice(("", "", "n", "r", "l", "m", "s"))
        for _ in range(rng.choice((1, 2, 2, 3)))
    ]
    return "".join(syllables) + rng.choice(("b", "k", "p", "t", "x", "ng"))


def _words(rng: random.Random, cast: Cast, quirk: str) -> dict[str, str]:
    he, him, his, himself = _PRONOUNS[cast.he]
    food = rng.choice(tuple(FOODS))
    he2, him2, his2, himself2 = _PRONOUNS[cast.friend_he]
    return {
        **{"he": he, "him": him, "his": his, "himself": himself, "He": he.title(), "His": his.title()},
        **{"he2": he2, "him2": him2, "his2": his2, "himself2": himself2, "His2": his2.title()},
        **{"trait": cast.trait.name, "being": cast.being, "Name": cast.name, "friend": cast.friend},
        **{"Friend": cast.friend_name, "thing": cast.thing, "THING": cast.thing.upper(), "quirk": quirk},
        **{
            "place": cast.place,
            "food": food,
            "meal": FOODS[food] or food,
            "dish": rng.choice(DISHES),
            "day": rng.choice(DAYS),
            "fear": rng.choice(FEARS),
        },
        **{"learn": rng.choice(LEARN), "sound": rng.choice(SOUNDS), "far": rng.choice(FARS), "tree": "tree"},
        **{"other": rng.choice([each for each in THINGS if each != cast.thing]), "puddle": "puddle"},
    }

"""A small grammar of captions, and every word it can say."""

from dataclasses import dataclass

import numpy as np

from cnctl.tiny.shapes import CLASSES, COLOURS

PLACES: dict[str, tuple[str, ...]] = {
    "grass": ("on the grass", "in a green field", "in a meadow", "under a blue sky"),
    "beach": ("on the beach", "on the sand"),
    "snow": ("in the snow", "in winter"),
    "sea": ("on the sea", "on the water", "in the sea"),
    "night": ("at night", "under a dark night sky"),
    "sunset": ("at sunset", "under an orange sky"),
    "room": ("in a room", "on a wooden floor"),
}
OPENINGS = ("a picture of", "a drawing of", "an image of", "a photo of", "a toy of")
SYNONYMS: dict[str, tuple[str, ...]] = {
    "cat": ("kitten", "cat face"),
    "dog": ("puppy", "dog face"),
    "person": ("child", "boy", "girl", "man", "woman"),
    "boat": ("ship", "sailing boat"),
    "cup": ("mug", "cup of tea"),
    "tree": ("big tree",),
    "house": ("home", "small house"),
    "ball": ("circle", "round ball"),
    "mountain": ("hill",),
}
EXTRA_WORDS = (
    "one two three of with big small large little cute nice the this is my painting icon cartoon "
    "left right next to black and white colorful bright dark light best quality extremely detailed "
    "lowres bad worst photograph scene simple face animal toy , . !"
)


@dataclass(frozen=True)
class Backdrop:
    """What lies behind: "plain", "gradient" or a key of `PLACES`, with its colour words."""

    kind: str
    colours: tuple[str, ...] = ()


def describe(
    rng: np.random.Generator, named: list[tuple[str, str | None]], backdrop: Backdrop
) -> str:
    """A caption for (class, colour word or None) pairs before a backdrop."""
    phrases = [noun_phrase(rng, *pair) for pair in named]
    text = " and ".join(phrases)
    place = backdrop_phrase(rng, backdrop)
    if place and rng.random() < 0.6:
        text = f"{text} {place}"
    if rng.random() < 0.08:
        text = f"{OPENINGS[rng.integers(len(OPENINGS))]} {text}"
    elif rng.random() < 0.12:
        text = text.removeprefix("a ").removeprefix("an ")
    return text


def noun_phrase(rng: np.random.Generator, name: str, colour: str | None) -> str:
    """Such as "an orange cat", "a cat", "the red mug"."""
    noun = name
    if name in SYNONYMS and rng.random() < 0.12:
        noun = SYNONYMS[name][rng.integers(len(SYNONYMS[name]))]
    words = f"{colour} {noun}" if colour else noun
    if rng.random() < 0.06:
        return f"the {words}"
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def backdrop_phrase(rng: np.random.Generator, backdrop: Backdrop) -> str:
    """Such as "on a blue background", "in the snow", or nothing to say."""
    if backdrop.kind == "plain":
        ending = "background" if rng.random() < 0.85 else "wall"
        return f"on {_article(backdrop.colours[0])} {ending}"
    if backdrop.kind == "gradient":
        return f"on {_article(backdrop.colours[0])} and {backdrop.colours[1]} background"
    phrases = PLACES[backdrop.kind]
    if backdrop.kind == "room" and rng.random() < 0.4:
        return f"in {_article(backdrop.colours[0])} room"
    return phrases[rng.integers(len(phrases))]


def vocabulary() -> list[str]:
    """Every word of the grammar and a few that people are likely to type, sorted."""
    spoken = [*CLASSES, *COLOURS, *OPENINGS, "background", "wall", "room", EXTRA_WORDS]
    for phrases in (*PLACES.values(), *SYNONYMS.values()):
        spoken += phrases
    return sorted({word for phrase in spoken for word in phrase.split()})


def _article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"

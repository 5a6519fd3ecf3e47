"""Small drawn scenes, and what is said of them."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from elman.data.images.arrays import Pixels

COLOURS = {
    "red": (214, 39, 40),
    "blue": (31, 119, 220),
    "green": (44, 160, 44),
    "yellow": (240, 200, 20),
    "purple": (140, 60, 190),
    "black": (30, 30, 30),
}
SHAPES = ("circle", "square", "triangle", "star")
NUMBERS = ("a", "two", "three")
#: Said of the first group beside the second -> said of the second beside the first.
RELATIONS = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
}
#: Pixels on a side, and how many times finer a scene is drawn before it is shrunk.
SIDE, FINER = 32, 4


@dataclass(frozen=True)
class Group:
    """Some shapes of one kind and colour."""

    number: int
    colour: str
    shape: str

    def __str__(self) -> str:
        ending = "" if self.number == 1 else "s"
        return f"{NUMBERS[self.number - 1]} {self.colour} {self.shape}{ending}"


def scenes(count: int, seed: int) -> Iterator[tuple[Pixels, tuple[str, ...]]]:
    """Pictures [32, 32, 3] and all that is true to say of each: one group of shapes, or two groups
    beside each other, which can be said from either side."""
    draw = random.Random(seed)
    for _ in range(count):
        first = _group(draw)
        if draw.random() < 0.2:
            yield _drawn([(first, (0.5, 0.5), 1.0)], draw), (str(first),)
            continue
        second = first
        while (second.colour, second.shape) == (first.colour, first.shape):
            second = _group(draw)
        relation = draw.choice(tuple(RELATIONS))
        (x, y), (u, v) = _places(relation, draw)
        picture = _drawn([(first, (x, y), 0.6), (second, (u, v), 0.6)], draw)
        said = f"{first} {relation} {second}", f"{second} {RELATIONS[relation]} {first}"
        yield picture, said


def _group(draw: random.Random) -> Group:
    number = draw.randint(1, len(NUMBERS))
    return Group(number, draw.choice(tuple(COLOURS)), draw.choice(SHAPES))


def _places(relation: str, draw: random.Random) -> tuple[tuple[float, float], ...]:
    """Where the middles of two groups are, as shares of the side."""
    near, far = 0.25 + draw.uniform(-0.02, 0.02), 0.75 + draw.uniform(-0.02, 0.02)
    across = [0.5 + draw.uniform(-0.12, 0.12) for _ in range(2)]
    if relation in ("right of", "below"):
        near, far = far, near
    if relation in ("left of", "right of"):
        return (near, across[0]), (far, across[1])
    return (across[0], near), (across[1], far)


def _drawn(groups: list[tuple[Group, tuple[float, float], float]], draw: random.Random) -> Pixels:
    """groups: each with its middle, and how much of the picture is its own."""
    side = SIDE * FINER
    ground = tuple(draw.randint(225, 255) for _ in range(3))
    image = Image.new("RGB", (side, side), ground)
    canvas = ImageDraw.Draw(image)
    for group, (x, y), share in groups:
        turn = draw.uniform(0, 2 * math.pi)
        radius = share * draw.uniform(0.14, 0.175) * (1.3 if group.number == 1 else 1.0)
        colour = tuple(min(255, max(0, c + draw.randint(-15, 15))) for c in COLOURS[group.colour])
        for k in range(group.number):
            # Around the middle, so far from it that they do not touch.
            away = 0.0 if group.number == 1 else 1.35 * radius
            angle = turn + 2 * math.pi * k / group.number
            middle = x + away * math.cos(angle), y + away * math.sin(angle)
            outline = _outline(group.shape, draw.uniform(-0.25, 0.25))
            points = [
                tuple(side * (m + radius * p) for m, p in zip(middle, q, strict=True))
                for q in outline
            ]
            canvas.polygon(points, fill=colour)
    return np.asarray(image.reduce(FINER))


def _outline(shape: str, turn: float) -> list[tuple[float, float]]:
    """The corners of a shape of radius 1, turned by an angle."""
    corners = {"circle": 24, "square": 4, "triangle": 3, "star": 10}[shape]
    begin = turn + (math.pi / 4 if shape == "square" else -math.pi / 2)
    points = []
    for k in range(corners):
        radius = 0.45 if shape == "star" and k % 2 else 1.0
        angle = begin + 2 * math.pi * k / corners
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    return points

"""Points that fill a space evenly (a scrambled Sobol sequence), or by chance; fixed by a seed."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator

from dltrain.config.grammar import Interval

BITS = 24  # as many digits as a config's value has
# Degree, polynomial and first direction numbers of dimensions 2 to 21: the table of Joe and Kuo,
# new-joe-kuo-6 (https://web.maths.unsw.edu.au/~fkuo/sobol/); the first dimension needs none
DIRECTIONS = (
    (1, 0, (1,)),
    (2, 1, (1, 3)),
    (3, 1, (1, 3, 1)),
    (3, 2, (1, 1, 1)),
    (4, 1, (1, 1, 3, 3)),
    (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)),
    (5, 4, (1, 1, 5, 5, 5)),
    (5, 7, (1, 1, 7, 11, 19)),
    (5, 11, (1, 1, 5, 1, 1)),
    (5, 13, (1, 1, 1, 3, 11)),
    (5, 14, (1, 3, 5, 5, 31)),
    (6, 1, (1, 3, 3, 9, 7, 49)),
    (6, 13, (1, 1, 1, 15, 21, 21)),
    (6, 16, (1, 3, 1, 13, 27, 49)),
    (6, 19, (1, 1, 1, 15, 7, 5)),
    (6, 22, (1, 3, 1, 15, 13, 25)),
    (6, 25, (1, 1, 5, 5, 19, 61)),
    (7, 1, (1, 3, 7, 11, 23, 15, 103)),
    (7, 4, (1, 3, 7, 13, 13, 15, 69)),
)


def points(sampler: str, num_dimensions: int, seed: int) -> Iterator[tuple[float, ...]]:
    """Without end, each in [0, 1)^num_dimensions; `sobol` or `uniform`.

    Beyond 21 dimensions the further ones of a Sobol point are uniform: no sweep of a few hundred
    jobs could fill them evenly.
    """
    chance = random.Random(f"{seed}:{sampler}")
    even = min(num_dimensions, len(DIRECTIONS) + 1) if sampler == "sobol" else 0
    columns = [directions(dimension) for dimension in range(even)]
    for index in range(1 << BITS):
        rest = (chance.random() for _ in range(num_dimensions - even))
        yield (
            *(scramble(sobol(index, column), seed, at) for at, column in enumerate(columns)),
            *rest,
        )


def directions(dimension: int) -> list[int]:
    """The direction numbers of a dimension (from 0), as fractions of 2^BITS."""
    if dimension == 0:
        return [1 << (BITS - 1 - bit) for bit in range(BITS)]
    degree, polynomial, first = DIRECTIONS[dimension - 1]
    numbers = list(first)
    for index in range(degree, BITS):
        before = numbers[index - degree]
        number = before ^ (before << degree)
        for term in range(1, degree):
            if polynomial >> (degree - 1 - term) & 1:
                number ^= numbers[index - term] << term
        numbers.append(number)
    return [number << (BITS - 1 - bit) for bit, number in enumerate(numbers)]


def sobol(index: int, column: list[int]) -> int:
    """A coordinate of the point, of 2^BITS: the directions of the bits of index's Gray code."""
    gray, value = index ^ (index >> 1), 0
    for bit, direction in enumerate(column):
        if gray >> bit & 1:
            value ^= direction
    return value


def scramble(value: int, seed: int, dimension: int) -> float:
    """Owen's: each digit is flipped or not by the digits above it, so that every interval of size
    2^-k keeps its one point of 2^k, and no point lies at 0 or in a corner."""
    result = 0
    for bit in reversed(range(BITS)):
        above = value >> (bit + 1)
        flip = hashlib.blake2b(f"{seed}:{dimension}:{bit}:{above}".encode(), digest_size=1).digest()
        result = result << 1 | (value >> bit & 1) ^ (flip[0] & 1)
    return (result + 0.5) / (1 << BITS)


def scaled(interval: Interval, position: float) -> str:
    """The number at `position` of an interval, as few digits as tell ten thousand of them apart."""
    low, high = interval.low, interval.high
    if interval.whole:
        high += 1
    width = math.log(high) - math.log(low) if interval.log else high - low
    value = low + position * width
    if interval.log:
        value = math.exp(math.log(low) + position * width)
    if interval.whole:
        return str(min(int(interval.high), math.floor(value)))
    step = value * width if interval.log else width
    digits = 4 - math.floor(math.log10(step))
    rounded = round(value, digits)
    return repr(float(min(max(rounded, low), high)))

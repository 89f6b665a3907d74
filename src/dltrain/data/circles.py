"""Rings in the plane, one a class: what no linear model of (x, y) can tell apart."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from dltrain.data.arrays import Arrays, check_facts, check_split_sizes
from dltrain.data.download import Progress
from dltrain.data.memory import check_memory

_BYTES_PER_SAMPLE = 100  # while it is made: a dozen numbers of 8 bytes


class Circles:
    """Points on concentric circles of the given radii, with Gaussian noise on both coordinates.

    inputs: float32 [N, 2], (x, y), or (radius, angle in [-pi, pi]) with coordinates=polar. Every
    class has its equal share of each split. num_samples are those of the training set.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        image_shape: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        radii: Sequence[float],
        noise: float,
        coordinates: Literal["cartesian", "polar"],
        num_samples: int,
        num_val: int,
        num_test: int,
        split_seed: int,
    ) -> None:
        self.facts = check_facts(num_classes, image_shape, mean, std)
        self.num_classes, self.image_shape, self.mean, self.std = self.facts
        self.sizes = check_split_sizes(num_samples, num_val, num_test, seed=split_seed)
        self.split_seed = split_seed
        self.radii, self.noise, self.coordinates = tuple(radii), noise, coordinates
        self._check_geometry()
        check_memory(
            sum(self.sizes.values()) * _BYTES_PER_SAMPLE,
            "dataset.num_samples, num_val and num_test",
        )
        self.classes = tuple(f"radius {radius:g}" for radius in self.radii)

    def _check_geometry(self) -> None:
        if self.image_shape != (2,):
            raise ValueError(
                f"dataset.image_shape is {list(self.image_shape)}; points in the plane have [2]"
            )
        if len(self.radii) != self.num_classes or not all(0 <= r < math.inf for r in self.radii):
            raise ValueError(
                f"dataset.radii is {list(self.radii)}; it must hold {self.num_classes} numbers "
                ">= 0, one for each class"
            )
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"dataset.noise is {self.noise!r}; it must be >= 0")
        if self.coordinates not in ("cartesian", "polar"):
            raise ValueError(
                f"dataset.coordinates is {self.coordinates!r}; it must be `cartesian` or `polar`"
            )

    def load(self, progress: Progress | None = None) -> dict[str, Arrays]:
        """`train`, `val` and `test`, made anew: the same for the same split_seed."""
        random = np.random.RandomState(self.split_seed)
        return {split: self._make(size, random) for split, size in self.sizes.items()}

    def _make(self, num_samples: int, random: np.random.RandomState) -> Arrays:
        targets = np.arange(num_samples, dtype=np.int64) % self.num_classes
        angles = random.uniform(-math.pi, math.pi, num_samples)
        directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        points = np.array(self.radii)[targets, None] * directions
        points += self.noise * random.standard_normal(points.shape)
        if self.coordinates == "polar":
            x, y = points.T
            points = np.stack([np.hypot(x, y), np.arctan2(y, x)], axis=1)
        return Arrays(points.astype(np.float32), targets)

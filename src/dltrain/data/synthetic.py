"""Made-up data of any shape, quickly: for tests, benchmarks and trying a model out."""

import math
from collections.abc import Sequence

import numpy as np

from dltrain.data.arrays import Arrays, check_facts, check_split_sizes
from dltrain.data.download import Progress
from dltrain.data.memory import check_memory

# A pattern is 8x8 blocks: coarse enough for small convolutions and random crops to keep it.
_BLOCKS = 8


class Synthetic:
    """A pattern for each class under noise as strong: easy for every model, nothing to download.

    inputs: uint8 [N, C, H, W], or float32 [N, F] in [0, 1) for an image_shape of one number. Every
    class has its equal share of each split. num_samples are those of the training set.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        image_shape: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        num_samples: int,
        num_val: int,
        num_test: int,
        split_seed: int,
    ) -> None:
        self.facts = check_facts(num_classes, image_shape, mean, std)
        self.num_classes, self.image_shape, self.mean, self.std = self.facts
        self.sizes = check_split_sizes(num_samples, num_val, num_test, seed=split_seed)
        self.split_seed = split_seed
        self._check_memory()
        self.classes = tuple(f"class {number}" for number in range(num_classes))

    def _check_memory(self) -> None:
        """While it is made, a value takes three bytes, and eight where it becomes a float32."""
        values = math.prod(self.image_shape)
        per_sample = values * (3 if len(self.image_shape) == 3 else 8) + 8
        patterns_and_names = self.num_classes * (values + 100)
        check_memory(
            patterns_and_names + sum(self.sizes.values()) * per_sample,
            "dataset.num_samples, num_val, num_test, num_classes and image_shape",
        )

    def load(self, progress: Progress | None = None) -> dict[str, Arrays]:
        """`train`, `val` and `test`, made anew: the same for the same split_seed."""
        random = np.random.RandomState(self.split_seed)
        patterns = self._patterns(random)
        return {split: self._make(size, patterns, random) for split, size in self.sizes.items()}

    def _patterns(self, random: np.random.RandomState) -> np.ndarray:
        """uint8 [K, *image_shape] in [0, 128), constant over blocks of pixels."""
        channels, *size = self.image_shape
        coarse = (self.num_classes, channels, *(min(length, _BLOCKS) for length in size))
        patterns = random.randint(0, 128, coarse).astype(np.uint8)
        for axis, length in enumerate(size, 2):
            patterns = patterns.take(np.arange(length) * patterns.shape[axis] // length, axis)
        return patterns

    def _make(
        self, num_samples: int, patterns: np.ndarray, random: np.random.RandomState
    ) -> Arrays:
        targets = np.arange(num_samples, dtype=np.int64) % self.num_classes
        noise = np.frombuffer(random.bytes(num_samples * math.prod(self.image_shape)), np.uint8)
        inputs = noise.reshape(num_samples, *self.image_shape) & 127
        inputs += patterns[targets]
        if len(self.image_shape) == 3:
            return Arrays(inputs, targets)
        return Arrays(inputs.astype(np.float32) / 256, targets)

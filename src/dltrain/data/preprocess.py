"""What a caller has -> a batch as evaluation sees it, by the facts that a run's config holds."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dltrain.data.arrays import check_facts
from dltrain.data.normalise import Normalise
from dltrain.data.unseen import Unseen


class Preprocess:
    """Images or features -> float32 [n, *image_shape] on `device`, normalised.

    facts: `dataset:` of a config: image_shape, mean and std, and of a folder of images
    crop_fraction and decode. Raises ValueError where they are missing.
    """

    def __init__(self, facts: Mapping[str, Any], device: torch.device) -> None:
        for name in ("image_shape", "mean", "std"):
            if not isinstance(facts.get(name), list):
                raise ValueError(
                    f"dataset.{name} is not in the run's config.yaml: its preprocessing is unknown"
                )
        _, self.shape, mean, std = check_facts(1, facts["image_shape"], facts["mean"], facts["std"])
        self.is_image = len(self.shape) == 3
        self.device = device
        # As the loaders have them in memory: sums over channels may round by their order
        self.channels_last = "crop_fraction" in facts
        if self.is_image:
            self.unseen = Unseen(
                self.shape,
                crop_fraction=facts.get("crop_fraction"),
                decode=facts.get("decode", "exact"),
            )
        unit = 255.0 if self.is_image else 1.0
        self._normalise = Normalise(mean, std, sample_shape=self.shape, unit=unit, device=device)

    def __call__(self, images: Any) -> Tensor:
        """Of one image, or several; see `Unseen`. Raises ValueError, which names a bad file."""
        parts = [self.samples(part) for part in self.parts(images, 1 << 30)]
        return self.normalise(np.concatenate(parts) if parts else self.samples([]))

    def normalise(self, samples: np.ndarray) -> Tensor:
        """Samples as a dataset holds them."""
        return self._normalise(torch.from_numpy(samples).to(self.device))

    def parts(self, images: Any, size: int) -> Iterator[Sequence[Any]]:
        """Lists of at most `size` images (or rows of features); one image is a list of one."""
        if isinstance(images, str | os.PathLike | Image.Image):
            return iter([[images]])
        if not isinstance(images, Iterable):
            raise ValueError(
                f"images is {str(images)[:60]}; it must be an image, or several: see load_run"
            )
        if isinstance(images, Tensor):
            images = images.detach().cpu().numpy()
        elif not self.is_image:
            images = np.asarray(images)
        if isinstance(images, np.ndarray) and images.ndim <= len(self.shape):
            images = images[None]
        items = iter(images)
        return iter(lambda: list(islice(items, size)), [])

    def samples(self, images: Sequence[Any]) -> np.ndarray:
        """[n, *image_shape]: uint8 of images, float32 of features."""
        if not self.is_image:
            rows = np.array(images, np.float32).reshape(len(images), -1)
            if (len(rows) and rows.shape[1:] != self.shape) or not np.isfinite(rows).all():
                raise ValueError(
                    f"these are {len(rows)} rows of {rows.shape[1]} numbers; expected rows of "
                    f"{self.shape[0]} finite ones"
                )
            return rows.reshape(-1, *self.shape)
        channels, height, width = self.shape
        if not self.channels_last:
            samples = np.empty((len(images), *self.shape), np.uint8)
        else:
            stored = np.empty((len(images), height, width, channels), np.uint8)
            samples = stored.transpose(0, 3, 1, 2)
        for place, image in enumerate(images):
            samples[place] = self.unseen.convert(image)
        return samples

"""An epoch of CIFAR-shaped data with crop, flip and normalise: loading alone, no training.

    python scripts/bench/cifar_loading.py [--rounds 7] [--threads 1]

In images/s, within one process, on random images; batches of 128:

- `dltrain`: the training loader of `dataset=cifar10 augmentation=crop_flip`, whole epochs;
- `torchvision, N workers`: torch's DataLoader over PIL images with torchvision's RandomCrop(32,
  padding=4), RandomHorizontalFlip, ToTensor and Normalize; workers that persist, and what they have
  read ahead before the time is taken is thrown away.

Beyond the project: torchvision and Pillow.
"""

import argparse
import time

import numpy as np
import torch
from rounds import compare

from dltrain.data.augment import Crop, Flip
from dltrain.data.resident import ResidentLoader

NUM_IMAGES, BATCH_SIZE = 50_000, 128
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
NUM_TIMED, READ_AHEAD = 25, 4  # batches of torchvision's loaders; 2 a worker are read ahead


class Dltrain:
    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.loader = ResidentLoader(
            images.transpose(0, 3, 1, 2), labels, batch_size=BATCH_SIZE, mean=MEAN, std=STD,
            device="cpu", augmentations=(Crop(padding=4), Flip(probability=0.5)), shuffle=True,
        )  # fmt: skip
        self.epoch = 0

    def run(self) -> float:
        begin = time.perf_counter()
        for _ in self.loader.epoch(self.epoch):
            pass
        self.epoch += 1
        return NUM_IMAGES / (time.perf_counter() - begin)


class Images(torch.utils.data.Dataset):
    """What torchvision.datasets.CIFAR10 does for a sample."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        from torchvision import transforms

        self.images, self.labels = images, labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class Torchvision:
    def __init__(self, images: np.ndarray, labels: np.ndarray, num_workers: int) -> None:
        self.num_workers = num_workers
        self.loader = torch.utils.data.DataLoader(
            Images(images, labels), batch_size=BATCH_SIZE, shuffle=True, num_workers=num_workers,
            persistent_workers=num_workers > 0, drop_last=True,
        )  # fmt: skip
        self.batches = iter(self.loader)

    def take(self) -> None:
        if next(self.batches, None) is None:
            self.batches = iter(self.loader)
            next(self.batches)

    def run(self) -> float:
        for _ in range(READ_AHEAD if self.num_workers else 0):
            self.take()
        begin = time.perf_counter()
        for _ in range(NUM_TIMED):
            self.take()
        seconds = time.perf_counter() - begin
        if self.num_workers:  # they read ahead again, and are not to disturb what comes next
            time.sleep(0.2 + READ_AHEAD * seconds / NUM_TIMED)
        return NUM_TIMED * BATCH_SIZE / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (NUM_IMAGES, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, NUM_IMAGES)
    variants = {"dltrain": Dltrain(images, labels).run}
    for num_workers in (0, 2):
        name = f"torchvision, {num_workers} workers"
        variants[name] = Torchvision(images, labels, num_workers).run
    compare(variants, rounds=arguments.rounds, unit="images/s", against="torchvision, 2 workers")


if __name__ == "__main__":
    main()

"""Images a second: folders and packed sets, beside torchvision's usual pipeline.

    python scripts/bench/read_images.py [--rounds 5] [--images 1000] [--workers 2] [--threads 2]

Makes JPEGs of 500x375 pixels (about 72 kB) of scikit-learn's two sample photographs in a
temporary folder (crops, mirrored, with noise), and packs them both ways with `dltrain prepare`.
Every way reads whole epochs in batches of 64, each image cut by a random resized crop to 224 and
mirrored at random:

    torchvision   ImageFolder (PIL), RandomResizedCrop(224), RandomHorizontalFlip, ToTensor,
                  Normalize in a DataLoader with persistent workers
    all others    dltrain's loader of the config as `dltrain train` would make it; `bytes out`:
                  batches as they come from the workers, mirrored and normalised by nobody (where
                  there is a GPU, it does both)

Each way lives in a process of its own, with its workers started and an epoch read before the first
round; it waits while others are measured, and these wait until it has read ahead what it may.
Rounds alternate; ratios are taken within a round.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCH, SIZE = 64, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WAYS = {
    "torchvision": None,
    "folder": ["dataset=image_folder", "dataset.root=folder"],
    "folder, decode=fast": ["dataset=image_folder", "dataset.root=folder", "dataset.decode=fast"],
    "packed files": ["dataset=packed", "dataset.root=files"],
    "packed files, decode=fast": ["dataset=packed", "dataset.root=files", "dataset.decode=fast"],
    "packed uint8": ["dataset=packed", "dataset.root=uint8"],
    "packed uint8, bytes out": ["dataset=packed", "dataset.root=uint8"],
}


def make_photos(root: Path, count: int) -> float:
    """A folder train/CLASS/*.jpg of ten classes, and val; the mean size in bytes."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    random = np.random.RandomState(0)
    sizes = []
    for number in range(count + 20):
        photo = photos[number % 2]
        width = random.randint(320, photo.height * 4 // 3 + 1)
        height = width * 3 // 4
        left = random.randint(0, photo.width - width + 1)
        top = random.randint(0, photo.height - height + 1)
        image = photo.crop((left, top, left + width, top + height)).resize((500, 375), 2)
        if random.rand() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        noise = random.normal(0, 8, (375, 500, 3))
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
        split = "train" if number < count else "val"
        path = root / split / f"class_{number % 10}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90)
        path.write_bytes(file.getvalue())
        sizes.append(path.stat().st_size)
    return statistics.mean(sizes)


# ---------------------------------------------------------------------- the ways


def torchvision_epochs(num_workers: int):
    """Yields the number of images of each batch, for ever."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    pipeline = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    loader = DataLoader(
        datasets.ImageFolder("folder/train", pipeline),
        batch_size=BATCH,
        shuffle=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        generator=torch.Generator().manual_seed(0),
    )
    while True:
        for inputs, _ in loader:
            yield len(inputs)


def dltrain_epochs(overrides: list[str], num_workers: int, bytes_out: bool):
    """The same of `dltrain train`'s loader."""
    import torch

    from dltrain import build_data, build_loaders
    from dltrain.commands.checked import checked
    from dltrain.config.compose import compose, job_config

    common = [f"loader.batch_size={BATCH}", f"loader.num_workers={num_workers}"]
    config = checked(job_config(compose([*overrides, "augmentation=imagenet", *common])))
    data = build_data.read_data(config)
    device = torch.device("cpu")
    place = build_loaders.placement(config, data, device)
    loader = build_loaders.make_loader(config, data, "train", device, place)
    if bytes_out:
        loader._transform = lambda samples, draws: samples
    epoch = 0
    while True:
        for batch in loader.epoch(epoch):
            yield len(batch.inputs)
        epoch += 1


def serve(way: str, options: argparse.Namespace) -> None:
    """Reads an epoch for each line on stdin, and answers with seconds and images."""
    import torch

    torch.set_num_threads(options.threads)
    overrides = WAYS[way]
    if overrides is None:
        batches = torchvision_epochs(options.workers)
    else:
        batches = dltrain_epochs(overrides, options.workers, way.endswith("bytes out"))
    read(batches, options.images)
    print("ready", flush=True)
    for _ in sys.stdin:
        read(batches, 4 * BATCH)  # what had been read ahead while others were measured
        start = time.perf_counter()
        count = read(batches, options.images)
        print(json.dumps([time.perf_counter() - start, count]), flush=True)


def read(batches, at_least: int) -> int:
    count = 0
    while count < at_least:
        count += next(batches)
    return count


# ---------------------------------------------------------------------- the comparison


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2, help="of the process that trains")
    parser.add_argument("--only", default="", help="part of the names of the ways to compare")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        serve(options.way, options)
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        size = make_photos(Path("folder"), options.images)
        print(f"{options.images:,} JPEGs of 500x375, {size / 1000:.0f} kB each")
        program = [sys.executable, "-m", "dltrain", "prepare", "dataset=image_folder"]
        for store in ("files", "uint8"):
            arguments = ["dataset.root=folder", f"prepare.out={store}", f"prepare.store={store}"]
            subprocess.run([*program, *arguments], check=True, stdout=subprocess.DEVNULL)
        compare(options)


def compare(options: argparse.Namespace) -> None:
    command = [sys.executable, os.path.abspath(__file__)]
    for name in ("rounds", "images", "workers", "threads"):
        command += [f"--{name}", str(getattr(options, name))]
    ways = [way for way in WAYS if options.only in way or way == "torchvision"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = {}
    for way in ways:
        processes[way] = subprocess.Popen([*command, "--way", way], **pipes)
        assert processes[way].stdout.readline() == "ready\n", way
    rates = {way: [] for way in ways}
    for number in range(options.rounds):
        for way in ways if number % 2 == 0 else ways[::-1]:
            print("", file=processes[way].stdin, flush=True)
            seconds, count = json.loads(processes[way].stdout.readline())
            rates[way].append(count / seconds)
            time.sleep(6 * BATCH * seconds / count)  # workers fill what they may read ahead
    for process in processes.values():
        process.stdin.close()
        process.wait()
    print("| images | a second, median (min..max) | times torchvision (min..max) |\n|---|---|---|")
    for way in ways:
        ratios = [a / b for a, b in zip(rates[way], rates["torchvision"], strict=True)]
        spread = f"{min(ratios):.2f}..{max(ratios):.2f}"
        rate = f"{statistics.median(rates[way]):,.0f} "
        rate += f"({min(rates[way]):,.0f}..{max(rates[way]):,.0f})"
        print(f"| {way} | {rate} | {statistics.median(ratios):.2f} ({spread}) |")


if __name__ == "__main__":
    main()

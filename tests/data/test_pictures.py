"""Image files as samples: the pixels are torchvision's, whoever reads them."""

import io
import os

import numpy as np
import pytest
import torch
from photos import make_folder, pixels, write_photo
from PIL import Image
from torchvision.transforms.v2 import functional as F

from dltrain.data.augment import Crop, Flip
from dltrain.data.decode import decode
from dltrain.data.formats import open_image
from dltrain.data.headers import kind_of
from dltrain.data.image_folder import ImageFolder
from dltrain.data.pictures import middle, resize_into
from dltrain.data.randomness import Draws
from dltrain.data.read_all import read_all
from dltrain.data.resident import ResidentLoader
from dltrain.data.resized_crop import RandomResizedCrop
from dltrain.data.streamed import StreamedLoader
from dltrain.errors import WorkerError

OPTIONS = {
    "batch_size": 5,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "device": "cpu",
    "shuffle": True,
    "seed": 3,
}
SIZE = 16
FRAMED = (
    RandomResizedCrop(size=None, scale=[0.08, 1.0], ratio=[0.75, 4 / 3]),
    Flip(probability=0.5),
)
MOVED = (Crop(padding=2), Flip(probability=0.5))


def dataset(root):
    return ImageFolder(
        root=str(root),
        num_classes="auto",
        size=SIZE,
        image_shape=(3, SIZE, SIZE),
        crop_fraction=0.875,
        mean=OPTIONS["mean"],
        std=OPTIONS["std"],
        num_val=0,
        num_test=0,
        split_seed=0,
        on_bad_image="error",
        decode="exact",
    )


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    root = make_folder(tmp_path_factory.mktemp("photos"))
    return dataset(root).load()


@pytest.fixture
def make(splits):
    """A function that makes a loader of the training images, which is closed afterwards."""
    made = []

    def loader(*, num_workers=0, split="train", **options):
        pictures, targets = splits[split]
        options = OPTIONS | {"augmentations": FRAMED} | options
        made.append(
            StreamedLoader(pictures, torch.from_numpy(targets), num_workers=num_workers, **options)
        )
        return made[-1]

    yield loader
    for each in made:
        each.close()


def jpeg(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def assert_same(batches, expected):
    batches, expected = list(batches), list(expected)
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        for column, wanted in zip(batch, other, strict=True):
            assert torch.equal(column, wanted)
        assert batch.inputs.stride() == other.inputs.stride()  # other kernels round otherwise


# ---------------------------------------------------------------------- decoding


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (37, 53), (100, 17)])
@pytest.mark.parametrize(
    "options",
    [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True}],
    ids=str,
)
def test_a_jpeg_has_the_pixels_that_pillow_gives_it(size, options):
    data = jpeg(Image.fromarray(pixels(*size)), quality=85, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(decode(data), expected)


def test_a_grayscale_jpeg_has_three_equal_channels():
    data = jpeg(Image.fromarray(pixels(20, 30)[:, :, 0]))
    decoded = decode(data)
    assert decoded.shape == (20, 30, 3)
    assert (decoded == np.asarray(Image.open(io.BytesIO(data)))[:, :, None]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_put_upright_as_exif_says(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(pixels(24, 40))
    turned, plain = decode(jpeg(image, exif=exif)), decode(jpeg(image))
    expected = {
        1: plain,
        2: plain[:, ::-1],
        3: plain[::-1, ::-1],
        4: plain[::-1],
        5: plain.transpose(1, 0, 2),
        6: plain.transpose(1, 0, 2)[:, ::-1],
        7: plain.transpose(1, 0, 2)[::-1, ::-1],
        8: plain.transpose(1, 0, 2)[::-1],
    }
    assert np.array_equal(turned, expected[orientation])


XMP = b"""http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


def with_segments(data, *segments):
    """A JPEG with more application segments in front: (marker, content)."""
    parts = [bytes([0xFF, mark]) + (len(c) + 2).to_bytes(2, "big") + c for mark, c in segments]
    return data[:2] + b"".join(parts) + data[2:]


@pytest.mark.parametrize("where", ["xmp", "late exif"])
def test_wherever_its_orientation_stands_the_check_and_the_decoder_agree(where):
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = jpeg(Image.fromarray(pixels(24, 40)))
    turned = {
        "xmp": with_segments(plain, (0xE1, XMP)),
        "late exif": with_segments(
            jpeg(Image.fromarray(pixels(24, 40)), exif=exif), *[(0xE2, bytes(60_000))] * 3
        ),
    }[where]
    assert kind_of(open_image(io.BytesIO(turned)))[:2] == (40, 24)
    assert np.array_equal(decode(turned), decode(plain).transpose(1, 0, 2)[:, ::-1])


def test_bytes_too_many_between_the_parts_of_a_jpeg_are_skipped_as_pillow_does():
    data = jpeg(Image.fromarray(pixels(24, 40)))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(decode(data[:-2] + b"\1\2" + data[-2:]), expected)


@pytest.mark.parametrize("size", [(1, 65_000), (65_000, 1), (3, 40), (40, 4)])
def test_the_middle_of_a_thin_image_takes_no_more_than_it_shows(size):
    stripes = np.arange(size[0] * size[1] * 3, dtype=np.uint32).astype(np.uint8).reshape(*size, 3)
    shown = middle(stripes, 256, 224)
    assert shown.shape == (224, 224, 3)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.999])
def test_a_jpeg_that_ends_too_early_is_no_image(part):
    data = jpeg(Image.fromarray(pixels(64, 64)), quality=95)
    with pytest.raises(ValueError, match=r"\w"):
        decode(data[: int(part * len(data))])


def test_fast_is_near_and_smaller_where_that_is_enough():
    data = jpeg(Image.fromarray(pixels(96, 128)), quality=90, subsampling=0)
    exact, fast = decode(data), decode(data, exact=False)
    assert 0 < np.abs(exact.astype(int) - fast).mean() < 2  # with colours of fewer pixels more
    for shrink in (2, 4, 8):
        assert decode(data, shrink=shrink, exact=False).shape == (96 // shrink, 128 // shrink, 3)


# ---------------------------------------------------------------------- one sample


def as_torchvision_has_it(image, box):
    """By its transforms of Pillow's images: those of nearly everybody's pipeline."""
    if box:
        return F.resized_crop(image, *box, [SIZE, SIZE], antialias=True)
    return F.center_crop(F.resize(image, [round(SIZE / 0.875)], antialias=True), [SIZE, SIZE])


@pytest.mark.parametrize("height", [17, 40, 90])
@pytest.mark.parametrize("width", [16, 33, 120])
def test_parts_are_within_2_of_torchvisions(tmp_path, height, width):
    for number in range(2):
        write_photo(tmp_path / "train" / f"c{number}" / "0.png", height, width, seed=number)
    pictures = dataset(tmp_path).load()["train"].inputs
    out = np.empty((3, SIZE, SIZE), np.uint8)
    for box in ((), (0, 0, height, width), (3, 1, height - 5, width - 4), (1, 2, 9, 8)):
        pictures.read(1, out, *box)
        image = Image.fromarray(pixels(height, width, seed=1))
        expected = np.asarray(as_torchvision_has_it(image, box)).transpose(2, 0, 1)
        assert np.abs(out.astype(int) - expected).max() <= 2
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        assert np.array_equal(out, as_torchvision_has_it(tensor, box).numpy())


def test_a_file_that_was_changed_after_it_was_looked_at_is_named(tmp_path):
    for number in range(2):
        write_photo(tmp_path / "train" / f"c{number}" / "0.png", 20, 30)
    pictures, targets = dataset(tmp_path).load()["train"]
    write_photo(tmp_path / "train" / "c1" / "0.png", 30, 20)
    loader = StreamedLoader(
        pictures, torch.from_numpy(targets), num_workers=0, **OPTIONS | {"batch_size": 2}
    )
    with pytest.raises(WorkerError, match=r"c1/0.png cannot be read: it has 30 x 20 .* changed"):
        list(loader.epoch(0))


# ---------------------------------------------------------------------- batches


@pytest.mark.parametrize("augmentations", [(), FRAMED, MOVED, FRAMED[:1] + MOVED], ids=len)
@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_any_number_of_workers_gives_the_same_batches(augmentations, num_workers, make):
    alone = make(augmentations=augmentations)
    loader = make(num_workers=num_workers, augmentations=augmentations)
    for epoch in (0, 1):
        expected = list(alone.epoch(epoch))
        assert_same(loader.epoch(epoch), expected)
    for start in (0, 2, len(loader)):
        assert_same(loader.epoch(1, start), expected[start:])


@pytest.mark.parametrize("augmentations", [(), MOVED, MOVED[1:]], ids=len)
def test_held_in_memory_they_are_the_same_batches(augmentations, make, splits):
    pictures, targets = splits["train"]
    images = torch.from_numpy(read_all(pictures, "train", num_workers=2))
    assert images.shape == (24, 3, SIZE, SIZE)
    resident = ResidentLoader(
        images, torch.from_numpy(targets), augmentations=augmentations, **OPTIONS
    )
    streamed = make(num_workers=2, augmentations=augmentations)
    for epoch in (0, 1):
        assert_same(streamed.epoch(epoch), resident.epoch(epoch))


def test_a_part_is_drawn_by_the_size_of_its_own_image(splits):
    sizes = torch.from_numpy(splits["train"].inputs.sizes)
    draws = Draws(0, 1, 0, torch.arange(len(sizes)))
    boxes = FRAMED[0].frame(draws, *sizes.unbind(1))
    assert len(sizes.unique(dim=0)) > 5
    for number, (height, width) in enumerate(sizes.tolist()):
        assert torch.equal(boxes[number], FRAMED[0].draw(draws, (3, height, width))[number])


def test_two_ranks_together_see_what_one_process_sees(make):
    whole = list(make().epoch(2))
    ranks = [make(rank=rank, world_size=2, num_workers=rank).epoch(2) for rank in (0, 1)]
    for batch, *shares in zip(whole, *ranks, strict=True):
        for column, *parts in zip(batch, *shares, strict=True):
            assert torch.equal(column, torch.cat(parts))


def test_every_epoch_takes_other_parts_of_the_same_images(make):
    loader = make(shuffle=True, batch_size=24)
    first, second = next(loader.epoch(0)), next(loader.epoch(1))
    places = first.index.argsort(), second.index.argsort()
    assert torch.equal(first.targets[places[0]], second.targets[places[1]])
    same = (first.inputs[places[0]] == second.inputs[places[1]]).flatten(1).all(1)
    assert not same.any()


def test_evaluation_sees_the_middles_in_the_order_of_the_files(make, splits):
    pictures, targets = splits["val"]
    loader = make(split="val", shuffle=False, augmentations=())
    images = torch.from_numpy(read_all(pictures, "val", num_workers=0)).float()
    mean, std = (torch.tensor(OPTIONS[key])[:, None, None] for key in ("mean", "std"))
    batches = list(loader.epoch(0))
    assert torch.equal(torch.cat([batch.targets for batch in batches]), torch.from_numpy(targets))
    inputs = torch.cat([batch.inputs for batch in batches])
    torch.testing.assert_close(inputs, (images / 255 - mean) / std, rtol=1e-5, atol=1e-5)


def test_epochs_leave_no_descriptor_and_no_process_behind(make):
    before = sorted(os.listdir("/dev/fd"))
    loader = make(num_workers=2)
    open_while = []
    for epoch in range(4):
        list(loader.epoch(epoch))
        open_while.append(len(os.listdir("/dev/fd")))
    assert len(set(open_while)) == 1
    loader.close()
    assert sorted(os.listdir("/dev/fd")) == before


def test_a_part_that_is_not_of_the_datasets_size_is_refused(make):
    crop = RandomResizedCrop(size=32, scale=[0.1, 1.0], ratio=[0.75, 1.5])
    with pytest.raises(ValueError, match=r"size is \[32, 32\], but .* \[16, 16\]; .*dataset.size"):
        make(augmentations=(crop,))


@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.parametrize(
    ("height", "width"), [(16, 16), (9, 5), (40, 60), (9, 60), (60, 9), (1, 1), (16, 9), (333, 200)]
)
def test_resizing_into_a_batch_gives_the_bits_of_torchs_antialiased_resizing(
    height, width, writeable
):
    image = pixels(height + 2, width + 2, seed=height)
    image.flags.writeable = writeable
    part = image[1:-1, 1:-1]
    out = np.zeros((16, 16, 3), np.uint8)
    resize_into(part, out)
    tensor = torch.from_numpy(part.copy()).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(
        tensor, size=(16, 16), mode="bilinear", antialias=True
    )
    assert np.array_equal(out, expected[0].permute(1, 2, 0).numpy())
    planes = np.zeros((3, 16, 16), np.uint8)  # whose pixels lie in three places
    resize_into(part, planes.transpose(1, 2, 0))
    assert np.array_equal(planes.transpose(1, 2, 0), out)

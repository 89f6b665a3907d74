"""ResNets: the published numbers of parameters, and torchvision's outputs from its weights."""

import pytest
import torch
import torch.nn.functional as F
import torchvision.models

from dltrain.models.resnet import BasicBlock, Bottleneck, PaddedShortcut, ResNet


def num_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def resnet(depth, shape=(3, 32, 32), num_classes=10, **options):
    return ResNet(depth=depth, input_shape=shape, num_classes=num_classes, **options)


@pytest.mark.parametrize(
    ("depth", "published"),
    [
        (18, 11_689_512),
        (34, 21_797_672),
        (50, 25_557_032),
        (101, 44_549_160),
        (152, 60_192_808),
    ],
)
def test_imagenet_family_has_the_published_number_of_parameters(depth, published):
    with torch.device("meta"):
        assert num_parameters(resnet(depth, (3, 224, 224), 1000)) == published


@pytest.mark.parametrize(
    ("depth", "published_millions"),
    [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)],
)
def test_cifar_family_has_the_published_number_of_parameters(depth, published_millions):
    with torch.device("meta"):
        number = num_parameters(resnet(depth))
    assert number / 1e6 == pytest.approx(published_millions, abs=0.04 if depth == 110 else 0.0051)
    if depth == 20:
        assert number == 269_722


@pytest.mark.parametrize("depth", [20, 44, 110])
def test_cifar_family_has_as_many_layers_as_its_name_says(depth):
    with torch.device("meta"):
        model = resnet(depth)
    weights = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(weights) == depth


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_gives_torchvisions_output_from_torchvisions_weights(depth):
    torch.manual_seed(depth)
    theirs = torchvision.models.get_model(f"resnet{depth}", num_classes=7)
    ours = resnet(depth, (3, 64, 64), 7, stem="imagenet")
    ours.load_state_dict(ours.rename_weights(theirs.state_dict()))
    x = torch.randn(4, 3, 64, 64)
    for training in (True, False):  # training first: it moves the running statistics of both
        with torch.no_grad():
            expected, output = theirs.train(training)(x), ours.train(training)(x)
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
    renamed = ResNet.rename_weights(theirs.state_dict())
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, renamed[name], rtol=1e-5, atol=1e-5)


def test_gradients_are_torchvisions():
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=5)
    ours = resnet(18, (3, 64, 64), 5, stem="imagenet")
    ours.load_state_dict(ResNet.rename_weights(theirs.state_dict()))
    x, labels = torch.randn(4, 3, 64, 64), torch.arange(4)
    for model in (theirs, ours):
        F.cross_entropy(model(x), labels).backward()
    expected = ResNet.rename_weights({name: p.grad for name, p in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-5)


def test_our_own_names_are_not_renamed():
    state = resnet(50, stem="imagenet").state_dict()
    assert list(ResNet.rename_weights(state)) == list(state)


def test_initialisation_is_torchvisions():
    torch.manual_seed(0)
    ours, theirs = resnet(34, (3, 224, 224), 1000), torchvision.models.resnet34()
    expected = ResNet.rename_weights(theirs.state_dict())
    for name, tensor in ours.state_dict().items():
        if tensor.numel() > 5000:
            torch.testing.assert_close(tensor.std(), expected[name].std(), rtol=0.05, atol=0)
        elif "bn" in name or "shortcut.1" in name:
            assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("depth", [0, 2, 7, 19, 21, 45, 100])
def test_unsupported_depth_names_the_valid_ones(depth):
    with pytest.raises(ValueError, match=f"depth is {depth}.*18, 34, 50, 101, 152.*20, 26, 32, 44"):
        resnet(depth)


def test_depths_of_both_families_are_the_wide_one():
    for depth in (50, 152):  # 6·8+2 and 6·25+2 as well
        with torch.device("meta"):
            model = resnet(depth)
        assert isinstance(model.stages[0][0], Bottleneck)
        assert model.stem.conv.out_channels == 64


@pytest.mark.parametrize(
    ("depth", "shape", "stem", "map_size"),
    [
        (18, (1, 8, 8), "auto", (1, 1)),
        (18, (3, 32, 32), "auto", (4, 4)),
        (18, (3, 64, 64), "auto", (8, 8)),
        (18, (3, 95, 128), "auto", (12, 16)),
        (18, (3, 96, 96), "auto", (3, 3)),
        (18, (3, 64, 64), "imagenet", (2, 2)),
        (18, (3, 96, 96), "cifar", (12, 12)),
        (20, (3, 32, 32), "auto", (8, 8)),
        (20, (3, 33, 31), "auto", (9, 8)),
        (20, (3, 96, 96), "auto", (6, 6)),
    ],
)
def test_stem_fits_the_size_of_the_images(depth, shape, stem, map_size):
    with torch.device("meta"):
        features = resnet(depth, shape, stem=stem).features(torch.empty(2, *shape))
    assert features.shape == (2, 512 if depth == 18 else 64, *map_size)


def test_unknown_stem_is_refused():
    with pytest.raises(
        ValueError, match=r"model\.stem is 'tiny'; it must be cifar, imagenet or auto"
    ):
        resnet(18, stem="tiny")


@pytest.mark.parametrize("depth", [20, 18, 50])
def test_zero_init_last_starts_every_block_as_its_shortcut(depth):
    model = resnet(depth, zero_init_last=True).eval()
    blocks = [m for m in model.modules() if isinstance(m, BasicBlock | Bottleneck)]
    with torch.no_grad():
        for block in blocks:
            x = torch.rand(2, block.conv1.in_channels, 8, 8)
            torch.testing.assert_close(block(x), block.shortcut(x).relu())
    assert any(m.weight.count_nonzero() == 0 for m in model.modules() if hasattr(m, "running_mean"))
    plain = resnet(depth)
    assert all(m.weight.all() for m in plain.modules() if hasattr(m, "running_mean"))


def test_padded_shortcut_takes_every_second_pixel_and_adds_zeros():
    x = torch.randn(2, 3, 5, 4)
    y = PaddedShortcut(3, 7, 2)(x)
    assert torch.equal(y[:, :3], x[:, :, ::2, ::2])
    assert y.shape == (2, 7, 3, 2)
    assert y[:, 3:].count_nonzero() == 0

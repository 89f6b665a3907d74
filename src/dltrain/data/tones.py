"""Operations on the values of pixels, each image with its own parameter; as in torchvision v2.

Images are uint8 [n, C, H, W] of 1 or 3 channels. Arithmetic is float32 in single operations that
round for themselves, or exact, so that an image's values do not depend on its batch.
"""

import torch
from torch import Tensor

from dltrain.data.chunks import to_bytes


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """factors: float64 [n], >= 0; 1 changes nothing."""
    return _bytes(_times(images, factors))


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Between the image's mean grey (0), itself (1), and beyond. factors: float64 [n], >= 0."""
    grey = _grey(images)
    exact = torch.float32 if grey[0].numel() * 255 <= 1 << 24 else torch.float64
    mean = grey.sum((1, 2, 3), dtype=exact) / grey[0].numel()  # of whole numbers: in any order
    return _bytes(
        images.to(torch.float32)
        .mul_(_each(factors))
        .add_(_each(mean.float() * (1 - factors).float()))
    )


def saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Between grey (0), the image (1), and beyond. factors: float64 [n], >= 0."""
    if images.shape[1] == 1:
        return images
    return _bytes(_times(images, factors).add_(_grey(images) * _each(1 - factors)))


def hue(images: Tensor, shifts: Tensor) -> Tensor:
    """Turns the colour circle. shifts: float64 [n], in turns, from -0.5 to 0.5."""
    if images.shape[1] == 1:
        return images
    unit = images * (1 / 255)
    red, green, blue = unit.unbind(1)
    low, high = unit.aminmax(dim=1)
    chroma = high - low
    divisor = torch.where(chroma == 0, 1, chroma)  # grey stays grey whatever its hue
    of_red = (green - blue) / divisor
    of_green, of_blue = (blue - red) / divisor + 2, (red - green) / divisor + 4
    sixths = torch.where(high == red, of_red, torch.where(high == green, of_green, of_blue))
    sixths += 6 * shifts.float()[:, None, None]
    # Smith 1978 without its six cases: each channel falls and rises with its distance on the circle
    distances = torch.stack([sixths + place for place in (5, 3, 1)], 1).remainder_(6)
    distances = torch.minimum(distances, 4 - distances).clamp_(0, 1)
    return to_bytes((high[:, None] - distances.mul_(chroma[:, None])).mul_(255.999))


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Between smoothed (0), the image (1), and beyond; the outermost pixels stay.

    factors: float64 [n], >= 0.
    """
    height, width = images.shape[2:]
    if height <= 2 or width <= 2:
        return images
    whole = images.to(torch.int16)  # sums of 3 x 3 pixels, the centre five times: exact
    rows = whole[:, :, :-2] + whole[:, :, 1:-1] + whole[:, :, 2:]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * whole[:, :, 1:-1, 1:-1]
    smooth = (sums * (1 / 13)).round_()
    sharp = images.to(torch.float32)
    centre = sharp[:, :, 1:-1, 1:-1]
    centre += smooth.sub_(centre).mul_(_each(1 - factors))
    return _bytes(sharp)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keeps the highest bits of each value. bits: float64 [n], whole numbers from 0 to 8."""
    masks = 256 - 2 ** (8 - bits.long())
    return images & masks.to(torch.uint8)[:, None, None, None]


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """The negative of what is as bright as the threshold. thresholds: float64 [n], in [0, 255]."""
    whole = thresholds.float().ceil().to(torch.uint8)[:, None, None, None]
    # x ^ 255 is 255 - x; 0 - 1 is 255 in bytes
    return images ^ (0 - (images >= whole).to(torch.uint8))


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Each channel is stretched to the whole range, if it has more than one value."""
    low = images.amin((2, 3), keepdim=True)
    high = images.amax((2, 3), keepdim=True)
    flat = low == high
    steps = torch.where(flat, 1, (high - low) * (1 / 255))
    return _bytes((images - torch.where(flat, 0, low)) / steps)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Each channel's values are spread so that all are about equally frequent; as Pillow does."""
    num_planes, num_pixels = images.shape[0] * images.shape[1], images.shape[2] * images.shape[3]
    planes = images.reshape(num_planes, num_pixels)
    offsets = 256 * torch.arange(num_planes, device=images.device)[:, None]
    index = (planes + offsets).view(-1)
    counts = torch.bincount(index, minlength=256 * num_planes).view(num_planes, 256)
    below = counts.cumsum(1)
    # the brightest value that occurs: the first at which all pixels have been counted
    brightest = counts.gather(1, (below < num_pixels).sum(1, keepdim=True))
    step = (num_pixels - brightest) // 255
    divisor = step.clamp(min=1)
    table = torch.zeros_like(below)
    table[:, 1:] = ((below[:, :-1] + step // 2) // divisor).clamp_(max=255)
    table = torch.where(step == 0, torch.arange(256, device=images.device), table)
    return table.to(torch.uint8).view(-1).index_select(0, index).view(images.shape)


def _times(images: Tensor, factors: Tensor) -> Tensor:
    """float32 [n, C, H, W]. A product of two types would take longer."""
    return images.to(torch.float32).mul_(_each(factors))


def _each(values: Tensor) -> Tensor:
    """[n] -> float32 [n, 1, 1, 1]."""
    return values.float()[:, None, None, None]


def _bytes(values: Tensor) -> Tensor:
    """Rounds towards zero, as torchvision does. In place: `values` is ours."""
    return to_bytes(values.clamp_(0, 255))


def _grey(images: Tensor) -> Tensor:
    """float32 [n, 1, H, W], whole numbers: 0.2989 red + 0.587 green + 0.114 blue, rounded down.

    Ten thousandths are whole numbers below 2**24, so that only the last product is rounded, and
    never over a whole number.
    """
    if images.shape[1] == 1:
        return images.to(torch.float32)
    red, green, blue = images.to(torch.float32).split(1, dim=1)
    return (red * 2989).add_(green, alpha=5870).add_(blue, alpha=1140).mul_(1e-4).floor_()

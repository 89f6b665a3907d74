"""CIFAR-10: 60,000 colour photographs of 10 kinds of things, 32x32."""

from functools import partial

from dltrain.data.arrays import Arrays
from dltrain.data.cifar_layout import Layout, read_binary_batch, read_layouts, read_python_batch
from dltrain.data.download import Progress, Remote
from dltrain.data.published import PublishedDataset

_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))


class CIFAR10(PublishedDataset):
    """50,000 pictures to train on and 10,000 to test (Krizhevsky 2009).

    Found as root/cifar-10-batches-py, root/cifar-10-batches-bin, the files of either in root, or
    the archive of either in root.
    """

    title = "CIFAR10"
    classes = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    files = (
        Remote(
            "cifar-10-python.tar.gz",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
            170_498_071,
            "md5:c58f30108f718f92721af3b95e74349a",
        ),
    )
    layouts = (
        Layout(
            "cifar-10-batches-py",
            "cifar-10-python.tar.gz",
            train=_BATCHES,
            test="test_batch",
            read=partial(read_python_batch, labels="labels"),
        ),
        Layout(
            "cifar-10-batches-bin",
            "cifar-10-binary.tar.gz",
            train=tuple(f"{name}.bin" for name in _BATCHES),
            test="test_batch.bin",
            read=partial(read_binary_batch, num_label_bytes=1, max_records=10_000),
        ),
    )

    def _read(self, progress: Progress | None) -> tuple[Arrays, Arrays]:
        return read_layouts(self, self.layouts, progress)

"""MNIST: 70,000 handwritten digits, 28x28 gray."""

from dltrain.data.arrays import Arrays
from dltrain.data.download import Progress
from dltrain.data.idx_layout import idx_files, read_split_files
from dltrain.data.published import PublishedDataset


class MNIST(PublishedDataset):
    """60,000 digits to train on and 10,000 to test (LeCun, Cortes, Burges 1998)."""

    title = "MNIST"
    classes = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    files = idx_files(
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
        train_images=(9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        train_labels=(28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
        test_images=(1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
        test_labels=(4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
    )

    def _read(self, progress: Progress | None) -> tuple[Arrays, Arrays]:
        return read_split_files(self, progress)

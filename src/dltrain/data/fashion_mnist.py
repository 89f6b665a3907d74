"""Fashion-MNIST: 70,000 articles of clothing, 28x28 gray, in MNIST's format."""

from dltrain.data.arrays import Arrays
from dltrain.data.download import Progress
from dltrain.data.idx_layout import idx_files, read_split_files
from dltrain.data.published import PublishedDataset


class FashionMNIST(PublishedDataset):
    """60,000 pictures to train on and 10,000 to test (Xiao, Rasul, Vollgraf 2017)."""

    title = "FashionMNIST"
    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    files = idx_files(
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        train_images=(26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        train_labels=(29_515, "25c81989df183df01b3e8a0aad5dffbe"),
        test_images=(4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
        test_labels=(5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
    )

    def _read(self, progress: Progress | None) -> tuple[Arrays, Arrays]:
        return read_split_files(self, progress)

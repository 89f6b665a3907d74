"""KMNIST: 70,000 cursive Japanese characters of 10 kinds, 28x28 gray, in MNIST's format."""

from dltrain.data.arrays import Arrays
from dltrain.data.download import Progress
from dltrain.data.idx_layout import idx_files, read_split_files
from dltrain.data.published import PublishedDataset


class KMNIST(PublishedDataset):
    """60,000 characters to train on and 10,000 to test (Clanuwat et al. 2018)."""

    title = "KMNIST"
    classes = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    files = idx_files(
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        train_images=(18_165_135, "bdb82020997e1d708af4cf47b453dcf7"),
        train_labels=(29_497, "e144d726b3acfaa3e44228e80efcd344"),
        test_images=(3_041_136, "5c965bf0a639b31b8f53240b1b52f4d7"),
        test_labels=(5_120, "7320c461ea6c1c855c0b718fb2a4b134"),
    )

    def _read(self, progress: Progress | None) -> tuple[Arrays, Arrays]:
        return read_split_files(self, progress)

"""CIFAR-100: 60,000 colour photographs of 100 kinds of things, 32x32."""

from functools import partial

from dltrain.data.arrays import Arrays
from dltrain.data.cifar_layout import Layout, read_binary_batch, read_layouts, read_python_batch
from dltrain.data.download import Progress, Remote
from dltrain.data.published import PublishedDataset

_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""


class CIFAR100(PublishedDataset):
    """50,000 pictures to train on and 10,000 to test, with the fine labels (Krizhevsky 2009).

    Found as root/cifar-100-python, root/cifar-100-binary, the files of either in root, or the
    archive of either in root.
    """

    title = "CIFAR100"
    classes = tuple(_CLASSES.split())
    files = (
        Remote(
            "cifar-100-python.tar.gz",
            ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
            169_001_437,
            "md5:eb9058c3a382ffc7106e4002c42a8d85",
        ),
    )
    layouts = (
        Layout(
            "cifar-100-python",
            "cifar-100-python.tar.gz",
            train=("train",),
            test="test",
            read=partial(read_python_batch, labels="fine_labels"),
        ),
        Layout(
            "cifar-100-binary",
            "cifar-100-binary.tar.gz",
            train=("train.bin",),
            test="test.bin",
            read=partial(
                read_binary_batch, num_label_bytes=2, max_records=50_000
            ),  # coarse, then fine
        ),
    )

    def _read(self, progress: Progress | None) -> tuple[Arrays, Arrays]:
        return read_layouts(self, self.layouts, progress)

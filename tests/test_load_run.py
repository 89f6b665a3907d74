"""A run in Python: what training leaves is enough to use it, and a notebook can train too."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
import yaml
from PIL import Image

import dltrain
from dltrain import build
from dltrain.build_data import read_data
from dltrain.build_loaders import make_loader, placement
from dltrain.engine.device import process_settings, restore_process
from dltrain.engine.tensors import read_tensors
from dltrain.errors import CheckpointError, DltrainError, UserError

QUICK = ["trainer.max_epochs=1", "trainer.threads=1", "model.hidden_sizes=[8]", "callbacks=none"]
STOPPER = """
import signal
from dltrain.engine.callback import Callback

class Stopper(Callback):
    def after_update(self, trainer):
        if trainer.step == 2:  # the third is under way
            signal.raise_signal(signal.SIGINT)
"""


SECOND = """
import pathlib, threading, dltrain
from dltrain.engine.callback import Callback
from dltrain.errors import DltrainError

class Second(Callback):
    def on_fit_start(self, trainer):
        thread = threading.Thread(target=self.train)
        thread.start()
        thread.join()

    def train(self):
        try:
            dltrain.train(["trainer.max_epochs=1", "hydra.run.dir=second"])
        except DltrainError as error:
            pathlib.Path("said").write_text(str(error))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_dir(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run")


def digits(run, split="test"):
    return read_data(run.config).splits[split]


def batches_of(run, split):
    """What evaluation sees of a split."""
    data = read_data(run.config)
    device = torch.device("cpu")
    place = placement(run.config, data, device)
    loader = make_loader(run.config, data, split, device, place)
    inputs = torch.cat([batch.inputs for batch in loader.epoch(0)])
    loader.close()
    return inputs


def test_importing_the_package_loads_nothing():
    code = (
        "import sys, dltrain; dltrain.__version__\n"
        "assert not {'torch', 'hydra', 'omegaconf', 'numpy'} & sys.modules.keys()\n"
        "assert not hasattr(dltrain, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_model_is_the_one_that_was_tested(finished_run):
    run = dltrain.load_run(finished_run, device="cpu")
    weights = read_tensors(finished_run / "model.safetensors")
    assert all(torch.equal(weights[k], v) for k, v in run.model.state_dict().items())
    assert not run.model.training
    arrays = digits(run)
    right = (run.predict(arrays.inputs).argmax(1).numpy() == arrays.targets).mean()
    assert right == run.summary["test"]["accuracy"]
    assert [row["split"] for row in run.metrics][-1] == "test"
    assert run.classes == list("0123456789")


def test_loading_leaves_the_generators_alone(finished_run):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    dltrain.load_run(finished_run, device="cpu")
    assert torch.equal(torch.rand(3), expected)


def test_any_form_of_an_image_is_what_evaluation_sees(finished_run, tmp_path):
    run = dltrain.load_run(finished_run, device="cpu")
    arrays, expected = digits(run).inputs[:5], batches_of(run, "test")[:5]
    files = []
    for number, (image,) in enumerate(arrays):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(image).save(files[-1])
    forms = {
        "as the dataset holds them": arrays,
        "tensor": torch.from_numpy(arrays),
        "paths": files,
        "text": list(map(str, files)),
        "Pillow's": [Image.open(file) for file in files],
        "gray arrays": [image for (image,) in arrays],
        "RGB arrays": [numpy.stack([image] * 3, 2) for (image,) in arrays],
        "a generator": (file for file in files),
    }
    for name, images in forms.items():
        assert torch.equal(run.preprocess(images), expected), name
    assert torch.equal(run.preprocess(files[0]), expected[:1])
    assert torch.equal(run.preprocess(arrays[0]), expected[:1])
    assert run.preprocess([]).shape == (0, 1, 8, 8)
    assert run.predict([]).shape == (0, 10)


def test_another_size_is_resized_and_colours_become_gray(finished_run):
    run = dltrain.load_run(finished_run, device="cpu")
    random = numpy.random.RandomState(0)
    colours = random.randint(0, 256, (8, 8, 3)).astype(numpy.uint8)
    gray = numpy.asarray(Image.fromarray(colours).convert("L"))
    assert torch.equal(run.preprocess(colours), run.preprocess(gray))
    large = numpy.full((40, 30, 3), 100, numpy.uint8)
    assert torch.equal(run.preprocess(large), run.preprocess(large[:8, :8]))


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ("nowhere.png", "nowhere.png: "),
        (numpy.zeros((4, 4), numpy.float32), "array of float32; expected uint8"),
        (numpy.zeros((4, 4, 2), numpy.uint8), r"shape \[4, 4, 2\]; expected \[H, W\]"),
    ],
)
def test_what_is_no_image_is_refused(images, reason, finished_run):
    with pytest.raises(UserError, match=reason):
        dltrain.load_run(finished_run, device="cpu").predict(images)


def test_predictions_do_not_depend_on_how_many_come(finished_run):
    run = dltrain.load_run(finished_run, device="cpu")
    images = digits(run).inputs
    whole = run.predict(images)
    run.config["loader"]["eval_batch_size"] = 7
    assert (run.predict(images) - whole).abs().max() < 1e-6
    assert (run.predict(iter(images)) - whole).abs().max() < 1e-6


def test_features_are_rows_of_numbers(here):
    run = dltrain.train(["dataset=circles", *QUICK])
    arrays = digits(run)
    assert torch.equal(run.preprocess(arrays.inputs), batches_of(run, "test"))
    right = (run.predict(arrays.inputs).argmax(1).numpy() == arrays.targets).mean()
    assert right == run.summary["test"]["accuracy"]
    assert run.predict([0.5, 1.0]).shape == (1, len(run.classes))
    assert run.classes[0].startswith("radius")
    with pytest.raises(UserError, match="1 rows of 3 numbers; expected rows of 2"):
        run.predict([[1.0, 2.0, 3.0]])


# ---------------------------------------------------------------------- which weights


def steps(run_dir):
    return sorted(int(path.name[5:]) for path in (run_dir / "checkpoints").glob("step-*"))


def test_any_checkpoint_can_be_named(run_dir):
    first, last = steps(run_dir)
    folder = run_dir / "checkpoints" / f"step-{first:08d}"
    wanted = {"last": last, first: first, str(folder): first}
    for checkpoint, step in wanted.items():
        run = dltrain.load_run(run_dir, device="cpu", checkpoint=checkpoint)
        assert run.weights.step == step
        expected = read_tensors(run_dir / f"checkpoints/step-{step:08d}" / "model.safetensors")
        assert all(torch.equal(expected[k], v) for k, v in run.model.state_dict().items())
    best = dltrain.load_run(run_dir, device="cpu", checkpoint="best")
    assert best.weights.step == json.loads((run_dir / "summary.json").read_text())["best"]["step"]
    run = dltrain.load_run(run_dir, device="cpu", checkpoint=str(folder / "model.safetensors"))
    assert run.weights.name == "file-model"


@pytest.mark.parametrize(
    ("checkpoint", "kind", "reason"),
    [
        (77, CheckpointError, "no checkpoint of step 77; the newest are: 20, 40"),
        ("bset", UserError, "it must be best, last, a step"),
        ("nowhere.safetensors", CheckpointError, "nowhere.safetensors cannot be read"),
    ],
)
def test_what_is_not_there_is_refused(checkpoint, kind, reason, finished_run):
    with pytest.raises(kind, match=reason):
        dltrain.load_run(finished_run, device="cpu", checkpoint=checkpoint)


def flip_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_damaged_checkpoint_is_not_used(run_dir):
    flip_byte(run_dir / f"checkpoints/step-{steps(run_dir)[-1]:08d}" / "model.safetensors")
    with pytest.raises(CheckpointError, match="is damaged"):
        dltrain.load_run(run_dir, device="cpu", checkpoint="last")


def test_a_run_that_was_killed_has_its_newest_good_checkpoint(run_dir):
    """And not the weights of an end that it had come to before it was made longer."""
    summary = json.loads((run_dir / "summary.json").read_text()) | {"status": "running"}
    (run_dir / "summary.json").write_text(json.dumps(summary))
    run = dltrain.load_run(run_dir, device="cpu")
    assert run.weights.step == steps(run_dir)[-1]
    assert "has not ended" in run.weights.note
    flip_byte(run_dir / f"checkpoints/step-{steps(run_dir)[-1]:08d}" / "model.safetensors")
    assert dltrain.load_run(run_dir, device="cpu").weights.step == steps(run_dir)[0]
    shutil.rmtree(run_dir / "checkpoints")
    assert dltrain.load_run(run_dir, device="cpu").weights.name == "final"
    (run_dir / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        dltrain.load_run(run_dir, device="cpu")


def test_the_average_of_the_weights_or_the_weights(here):
    run = dltrain.train([*QUICK[:-1], "callbacks=[ema]", "callbacks.ema.warmup=true"])
    plain = dltrain.load_run(run.path, device="cpu", ema=False)
    step = plain.weights.step
    saved = read_tensors(run.path / f"checkpoints/step-{step:08d}" / "model.safetensors")
    assert all(torch.equal(saved[k], v) for k, v in plain.model.state_dict().items())
    tested = read_tensors(run.path / "model.safetensors")
    for average in (run, dltrain.load_run(run.path, device="cpu", checkpoint=step)):
        assert average.weights.ema
        assert all(torch.equal(tested[k], v) for k, v in average.model.state_dict().items())
    assert not all(torch.equal(tested[k], saved[k]) for k in tested)


def test_a_run_without_an_average_says_so(finished_run):
    with pytest.raises(UserError, match=r"no average of its weights \(callbacks.ema\)"):
        dltrain.load_run(finished_run, device="cpu", ema=True)


def test_weights_of_another_model_are_refused(run_dir):
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    config["model"]["hidden_sizes"] = [17]
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(CheckpointError, match="not of this run's model"):
        dltrain.load_run(run_dir, device="cpu")


# ---------------------------------------------------------------------- what it needs


def test_a_run_of_before_has_numbers_for_classes(run_dir):
    record = json.loads((run_dir / "run.json").read_text())
    for classes in (None, [1, 2], "abc", [["x"]] * 10):
        (run_dir / "run.json").write_text(json.dumps(record | {"classes": classes}))
        assert dltrain.load_run(run_dir, device="cpu").classes == list("0123456789")
    names = ["x" * 10**5] + ["y"] * 99
    (run_dir / "run.json").write_text(json.dumps(record | {"classes": names}))
    assert len("".join(dltrain.load_run(run_dir, device="cpu").classes)) < 1000


def test_rows_that_are_none_are_left_out(run_dir):
    with open(run_dir / "metrics.jsonl", "a") as file:
        file.write('[1]\n{"step": 9, "split": "val"}\n{"torn')
    assert dltrain.load_run(run_dir, device="cpu").metrics[-1]["step"] == 9


def test_a_stranger_s_run_runs_nothing(run_dir):
    text = (run_dir / "config.yaml").read_text()
    for old, new in (("dltrain.models.mlp.MLP", "os.system"), ("seed: 0", "seed: ${oc.env:HOME}")):
        (run_dir / "config.yaml").write_text(text.replace(old, new, 1))
        with pytest.raises(UserError):
            dltrain.load_run(run_dir, device="cpu")
    (run_dir / "config.yaml").write_text(text)
    (run_dir / "model.safetensors").rename(run_dir.parent / "w.safetensors")
    (run_dir / "model.safetensors").symlink_to(run_dir.parent / "w.safetensors")
    with pytest.raises(UserError, match="is a link"):
        dltrain.load_run(run_dir, device="cpu")


# ---------------------------------------------------------------------- training


def test_training_in_python_is_the_command(here, dltrain):
    import dltrain as package

    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    typed, folder = list(sys.argv), os.getcwd()
    first = package.train(QUICK)
    second = package.train(QUICK)
    assert dltrain("train", *QUICK, "hydra.run.dir=typed").code == 0
    expected = (here / "typed" / "model.safetensors").read_bytes()
    for run in (first, second):
        assert (run.path / "model.safetensors").read_bytes() == expected
    assert first.path != second.path
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert (sys.argv, os.getcwd()) == (typed, folder)
    record = json.loads((first.path / "run.json").read_text())
    assert record["command"].startswith("dltrain train trainer.max_epochs=1")


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_notebook_s_process_is_left_as_it_was(deterministic, here):
    before = process_settings()
    torch.use_deterministic_algorithms(not deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = True
    random.seed(1), numpy.random.seed(2), torch.manual_seed(3)
    try:
        expected = [process_settings(), drawn()]
        random.seed(1), numpy.random.seed(2), torch.manual_seed(3)
        typed = [f"trainer.deterministic={str(deterministic).lower()}", "trainer.device=cpu"]
        run = dltrain.train([*QUICK, "trainer.max_steps=2", *typed])
        assert [process_settings(), drawn()] == expected
    finally:
        restore_process(before)
    assert run.device.type == "cpu"


def drawn():
    return random.random(), numpy.random.rand(), torch.rand(()).item()


def test_a_mistake_is_raised_with_the_message_of_the_command(here):
    with pytest.raises(DltrainError, match=r"did you mean `optimizer\.lr`"):
        dltrain.train(["optimzer.lr=1"])
    with pytest.raises(DltrainError, match="must be a list"):
        dltrain.train("seed=1")
    assert not list(here.iterdir())


@pytest.mark.parametrize(("value", "said"), [
    (None, "overrides is None; it must be a list"),
    ([1, 2], r"overrides\[0\] is 1; it must be a text such as 'seed=1'"),
    (7, "overrides is 7; it must be a list"),
])  # fmt: skip
def test_overrides_that_are_none(value, said, here):
    with pytest.raises(DltrainError, match=said):
        dltrain.train(value)


def test_two_trainings_at_once_in_a_process_are_refused(here, monkeypatch):
    """They share its signals, its random numbers and Hydra."""
    (here / "my_second.py").write_text(SECOND)
    monkeypatch.syspath_prepend(str(here))
    second = "+callbacks.second={_target_: my_second.Second}"
    run = dltrain.train([*QUICK, second], allow_target=["my_second"])
    assert (here / "said").read_text().startswith("another dltrain.train is under way")
    assert run.summary["status"] == "completed"
    assert dltrain.train(QUICK).summary["status"] == "completed"


def test_arguments_that_are_none_of_what_is_asked_for(finished_run):
    with pytest.raises(UserError, match="ema is 'auto'; it must be True, False or None"):
        dltrain.load_run(finished_run, device="cpu", ema="auto")
    run = dltrain.load_run(finished_run, device="cpu")
    for images in (None, 7):
        with pytest.raises(UserError, match=r"images is .*; it must be"):
            run.predict(images)
        with pytest.raises(UserError, match=r"images is .*; it must be"):
            run.preprocess(images)


def test_an_interrupt_ends_the_run_and_not_the_notebook(here, monkeypatch):
    (here / "my_stopper.py").write_text(STOPPER)
    monkeypatch.syspath_prepend(str(here))
    handler = signal.getsignal(signal.SIGINT)
    stopper = "+callbacks.stopper={_target_: my_stopper.Stopper}"
    with pytest.raises(KeyboardInterrupt, match="dltrain resume"):
        dltrain.train([*QUICK, stopper], allow_target=["my_stopper"])
    (summary,) = here.rglob("summary.json")
    assert json.loads(summary.read_text())["status"] == "interrupted"
    assert signal.getsignal(signal.SIGINT) == handler
    run = dltrain.load_run(summary.parent, device="cpu", allow_target=["my_stopper"])
    assert run.weights.step == json.loads(summary.read_text())["step"]
    with pytest.raises(UserError):
        dltrain.load_run(summary.parent, device="cpu")


def test_what_predicts_is_what_the_task_evaluates(finished_run):
    """With views, too: the mean probability over them."""
    run = dltrain.load_run(finished_run, device="cpu")
    run.config["task"]["views"] = "flip"
    flipped = type(run)(**run.__dict__ | {"task": build.make(run.config, "task")})
    images = digits(run).inputs[:9]
    mirrored = numpy.ascontiguousarray(images[..., ::-1])
    expected = (run.predict(images) + run.predict(mirrored)) / 2
    assert (flipped.predict(images) - expected).abs().max() < 1e-6


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x40
    path.write_bytes(data)


def test_weights_that_a_bit_has_changed_are_refused(run_dir):
    """No reader of the format could tell: every value is a weight."""
    good = dltrain.load_run(run_dir, device="cpu", checkpoint="last")
    flip_a_bit(run_dir / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"not as training wrote it.*\n.*checkpoint=best"):
        dltrain.load_run(run_dir, device="cpu")
    again = dltrain.load_run(run_dir, device="cpu", checkpoint="last")
    assert all(torch.equal(t, again.weights.tensors[k]) for k, t in good.weights.tensors.items())
    with pytest.raises(DltrainError, match="not as training wrote it"):
        dltrain.train([f"init_from={run_dir}", *QUICK])


OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")


@pytest.mark.skipif(
    not OVERCOMMIT.exists() or OVERCOMMIT.read_text().strip() == "1",
    reason="this machine promises more memory than it has",
)
def test_a_model_that_there_is_no_room_for_is_the_config_s_fault(run_dir):
    text = (run_dir / "config.yaml").read_text()
    wide = "".join(f"  - {size}\n" for size in (16, 10**6, 10**6, 16))
    assert "  - 16\n" in text
    (run_dir / "config.yaml").write_text(text.replace("  - 16\n", wide))
    with pytest.raises(UserError, match=r"there is no room for the model of the run's config"):
        dltrain.load_run(run_dir, device="cpu")


def test_weights_of_a_run_that_recorded_no_digest_are_taken(run_dir):
    summary = json.loads((run_dir / "summary.json").read_text())
    assert len(summary.pop("weights_sha256")) == 64
    (run_dir / "summary.json").write_text(json.dumps(summary))
    assert dltrain.load_run(run_dir, device="cpu").weights.name == "final"

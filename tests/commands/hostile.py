"""Runs from a stranger: a good run's directory, with one thing in it that harms whoever trusts it.

`HOSTILE[name]` is a function of the run's directory that makes it so. Beside that directory lies
the user's own `home/precious.txt`; commands in the table would make `canary`.
"""

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

COMMAND = "_target_: os.system, command: touch canary"
MODEL = "_target_: dltrain.models.mlp.MLP"
LOOKALIKE = "'\\uff4fs.system'"  # a fullwidth o


class Command:
    def __reduce__(self):
        return os.system, ("touch canary",)


def config(old, new):
    def change(run_dir):
        text = (run_dir / "config.yaml").read_text()
        assert old in text
        (run_dir / "config.yaml").write_text(text.replace(old, new, 1))

    return change


def target(name):
    return config(MODEL, f"_target_: {name}")


def text(name, content):
    data = content if isinstance(content, bytes) else content.encode()
    return lambda run_dir: (run_dir / name).write_bytes(data)


def sparse(name, size):
    def change(run_dir):
        with open(run_dir / name, "wb") as file:
            file.truncate(size)

    return change


def instead(name, make):
    def change(run_dir):
        path = run_dir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        make(path)

    return change


def precious(path):
    """A link to the user's own file (in a folder of the run's, from there)."""
    path.symlink_to(home(path) / "precious.txt")


def zeros(path):
    path.symlink_to("/dev/zero")


def home(path):
    return next(p / "home" for p in path.absolute().parents if (p / "home").is_dir())


def moved_home(name):
    """The thing itself now lies in the user's home, and a link leads there."""

    def change(run_dir):
        (path,) = run_dir.glob(name)
        shutil.move(path, home(path) / "moved")
        path.symlink_to(home(path) / "moved")

    return change


def own_module(run_dir):
    (run_dir.parent / "my_net.py").write_text("open('canary', 'w')\nclass Net: pass\n")
    target("my_net.Net")(run_dir)


# ---------------------------------------------------------------------- refused before torch

CONFIGS = {
    **{name: target(name) for name in (
        "os.system", "subprocess.Popen", "builtins.eval", "dltrain.data.download.os.system",
        "dltrain.cli.run", "dltrain.claim.Claim", "torch.hub.load", "torch.load",
        "torch.nn.os.system",
        "torchvision.datasets.MNIST", "hydra.utils.instantiate", "hydra.utils.get_method",
        "torch.nn.Module.apply", "torch.nn.Module.__init__.__globals__", "functools.partial",
        "[os.system]", "5", "null", LOOKALIKE, "'os.\\x1b[2J'", '"os\\n\\n\\n\\n\\n\\n\\n.x"',
        '"os.\\e]0;x\\a"', "r.my_net.Net", "torch.optim.Adam", "torch.nn.Flatten.forward",
    )},
    "a module in the current folder": own_module,
    "deep in lists": config("norm: none", f"norm: [[[{{{COMMAND}}}]]]"),
    "a list deep in lists": config("norm: none", "norm: [[{_target_: [os, system]}]]"),
    "as a positional argument": config(MODEL, f"{MODEL}\n  _args_: [{{{COMMAND}}}]"),
    "behind _recursive_": config(MODEL, f"{MODEL}\n  _recursive_: false\n  x: {{{COMMAND}}}"),
    "_partial_ of a model": config(MODEL, f"{MODEL}\n  _partial_: true"),
    "_args_ that are none": config(MODEL, f"{MODEL}\n  _args_: 5"),
    "_recursive_ that is none": config(MODEL, f"{MODEL}\n  _recursive_: [1]"),
    "_convert_ that is none": config(MODEL, f"{MODEL}\n  _convert_: os.system"),
    "in a section": config("threads: 1", f"threads: {{{COMMAND}}}"),
    "at the top": config("seed: 0", "seed: 0\n_target_: os.system"),
    "hydra's callbacks": config("seed: 0", f"seed: 0\nhydra: {{callbacks: {{a: {{{COMMAND}}}}}}}"),
    "a part of another room": config(
        "_target_: dltrain.schedulers.cosine.Cosine", "_target_: torch.nn.Identity"
    ),
    "the environment": config("name: digits_mlp", "name: ${oc.env:HOME}"),
    "the environment, escaped": config("name: digits_mlp", "name: \\${oc.env:HOME}"),
    "the environment, as a key": config("norm: none", "norm: none\n  ${oc.env:HOME}: 1"),
    "oc.create": config("norm: none", f"norm: ${{oc.create:{{{COMMAND}}}}}"),
    "oc.decode": config("norm: none", "norm: ${oc.decode:'{_target_: os.system}'}"),
    "a name above": config("name: digits_mlp", "name: ../../home"),
    "python tag": config("seed: 0", "seed: !!python/object/apply:os.system [touch canary]"),
    "other tag": config("seed: 0", "seed: !!binary aGVsbG8="),
    "anchors": config("seed: 0", "seed: &a 0"),
    "bomb": text(
        "config.yaml",
        "a0: &a0 x\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(40)),
    ),
    "merge": config("seed: 0", "seed: 0\n<<: {a: 1}"),
    "a key twice": config("seed: 0", "seed: 0\nseed: 1"),
    "a million brackets": text("config.yaml", "[" * 10**6),
    "a hundred thousand dashes": text("config.yaml", "- " * 10**5),
    "a million values": text("config.yaml", "[" + "1," * 400_000 + "1]"),
    "a number that takes minutes": text("config.yaml", "a: 1" + ":1" * 400_000),
    "a number without end": text("config.yaml", "a: " + "9" * 10**6),
    "a float without end": text("config.yaml", "a: 1" + ":59" * 30 + ".5"),
    "NUL": text("config.yaml", "a: \0\n"),
    "2 GB": sparse("config.yaml", 2 << 30),
    "two documents": text("config.yaml", "a: 1\n---\na: 2\n"),
    "a pickle": text("config.yaml", pickle.dumps(Command())),
}  # fmt: skip
FILES = ("config.yaml", "run.json", "summary.json", "metrics.jsonl", "train.log",
         "metrics.csv", "model.safetensors")  # fmt: skip
PLACES = {
    **{f"a pipe as {name}": instead(name, os.mkfifo) for name in FILES},
    **{f"/dev/zero as {name}": instead(name, zeros) for name in FILES},
    **{f"a link as {name}": instead(name, precious) for name in FILES},
    **{f"a folder as {name}": instead(name, Path.mkdir) for name in FILES},
    **{f"a link as {name}": instead(name, precious) for name in (
        ".config.yaml.tmp", ".summary.json.tmp", ".model.safetensors.tmp", ".metrics.csv.tmp",
        "events.out.tfevents.1.host.1.0",
    )},
    "a file as checkpoints": instead("checkpoints", Path.touch),
    "a link as .hydra": moved_home(".hydra"),
    "a link as checkpoints": moved_home("checkpoints"),
    "a link as the events": moved_home("events.*"),
}  # fmt: skip

# ---------------------------------------------------------------------- ignored, or exit 3


def record(**changes):
    def change(run_dir):
        config("threads: 1", "threads: auto")(run_dir)
        data = json.loads((run_dir / "run.json").read_text()) | changes
        (run_dir / "run.json").write_text(json.dumps(data))

    return change


IGNORED = {
    "hydra's own record": text(".hydra/hydra.yaml", f"hydra: {{callbacks: {{a: {{{COMMAND}}}}}}}"),
    "hydra's own config": text(".hydra/config.yaml", "!!python/object/apply:os.system [a]"),
    "choices": record(choices={"model": "../../home", "dataset": "\x1b[2J", "task": [1]}),
    "choices of another type": record(choices=[1]),
    "a billion threads": record(threads=10**9),
    "threads that are text": record(threads="rm"),
    "resumed": record(resumed=[5]),
    "versions": record(versions=5),
    "a deep record": text("run.json", "[" * 10**5),
    "a record of 2 GB": sparse("run.json", 2 << 30),
    "a summary that is a list": text("summary.json", "[]"),
    "a summary of NaN": text("summary.json", '{"status": NaN, "step": NaN}'),
    "a deep summary": text("summary.json", '{"a":' * 10**5),
    "a step that is a file": text("checkpoints/step-00000060", "x"),
    "a step without end": lambda run_dir: (run_dir / f"checkpoints/step-{'9' * 20}").mkdir(),
    "a step that is a link": lambda run_dir: (run_dir / "checkpoints/step-00000060").symlink_to(
        home(run_dir / "x")),
    "leftovers that are links": lambda run_dir: [
        (run_dir / "checkpoints" / name).symlink_to(home(run_dir / "x"))
        for name in (".tmp-step-00000060", ".tmp-old-step-00000061", ".tmp-x")
    ],
}  # fmt: skip


def rewrite(folder: Path, **changes) -> None:
    """A manifest that is right about what the folder holds now, but for `changes`."""
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    del manifest["digest"]
    for name in manifest["files"]:
        data = (folder / name).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        manifest["files"][name] = {"size": len(data), "sha256": digest}
    manifest |= changes
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    text = json.dumps(manifest | {"digest": digest}, indent=1, allow_nan=False) + "\n"
    (folder / "MANIFEST.json").write_text(text)


def checkpoint(name=None, content=b"", **changes):
    """In every checkpoint, under a manifest that vouches for it."""

    def change(run_dir):
        for folder in (run_dir / "checkpoints").glob("step-*"):
            if name:
                (folder / name).write_bytes(content)
            rewrite(folder, **changes)

    return change


def safetensors(header, data=b"", length=None):
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(head) if length is None else length).to_bytes(8, "little") + head + data


PAIR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
WEIGHTS = {
    "a header of 2^63": safetensors(b"{}", length=1 << 63),
    "a header that is not there": safetensors(b"{}", length=10**6),
    "overlapping offsets": safetensors({"a": PAIR, "b": PAIR}, bytes(8)),
    "negative offsets": safetensors({"a": PAIR | {"data_offsets": [-8, 0]}}, bytes(8)),
    "an unknown dtype": safetensors({"a": PAIR | {"dtype": "X"}}, bytes(8)),
    "a shape that overflows": safetensors({"a": PAIR | {"shape": [1 << 62, 1 << 62]}}, bytes(8)),
    "a huge shape": safetensors({"a": PAIR | {"shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
    "a deep header": safetensors(b'{"a":' * 10**5),
    "a header of 20 MB": safetensors(b'{"a":"' + b"x" * (20 << 20) + b'"}'),
    "a pickle": pickle.dumps(Command()),
    "other weights": safetensors({"a": PAIR}, bytes(8)),
    "keys twice": safetensors(
        b'{"a":' + json.dumps(PAIR).encode() + b',"a":' + json.dumps(PAIR).encode() + b"}", bytes(8)
    ),
}
PASSWD = {name: {"size": 1, "sha256": ""} for name in ("/etc/passwd", "../../../home/precious.txt")}
CHECKPOINTS = {
    **{name: checkpoint("model.safetensors", data) for name, data in WEIGHTS.items()},
    "a pickle as state": checkpoint("state.safetensors", pickle.dumps(Command())),
    "a deep state": checkpoint("state.json", b'{"state":' + b"[" * 10**5),
    "a wide state": checkpoint("state.json", b'{"state":[' + b"1," * (2 << 20) + b"1]}"),
    "a state that is a list": checkpoint("state.json", b"[]"),
    "a manifest that names other files": checkpoint(files=PASSWD),
    "a manifest of lists": checkpoint(files=[], metrics=[]),
    "a manifest of text": checkpoint(step="x", metrics={"accuracy/val": "x"}),
}

"""A `_target_`'s arguments are judged as Python would, from source, with nothing imported."""

import importlib
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dltrain.config.signatures import TargetError, check_arguments, read_signature

# Classes and functions that are reached by re-exports, star imports, inheritance and overloads.
REAL_TARGETS = [
    "torch.optim.AdamW",
    "torch.optim.SGD",
    "torch.optim.RMSprop",
    "torch.optim.lr_scheduler.OneCycleLR",
    "torch.nn.Linear",
    "torch.nn.Conv2d",
    "torch.nn.AvgPool2d",
    "torch.nn.CrossEntropyLoss",
    "torch.nn.Sequential",
    "torch.nn.ReLU",
    "torch.nn.LazyLinear",
    "torchvision.models.ResNet",
    "torchvision.transforms.RandomCrop",
    "torchvision.transforms.v2.RandomCrop",
    "torchvision.transforms.v2.Normalize",
    "torchvision.transforms.v2.RandomRotation",
    "torch.nn.functional.relu",
    "json.JSONEncoder",
    "argparse.Namespace",
    "logging.handlers.RotatingFileHandler",
]


@pytest.mark.parametrize("target", REAL_TARGETS)
def test_same_parameters_as_the_imported_object(target: str) -> None:
    module, _, name = target.rpartition(".")
    theirs = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
    ours = read_signature(target)
    assert ours is not None
    kinds = inspect.Parameter
    named = [each for each in theirs if each.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)]
    assert [(each.name, each.required, each.keyword_only) for each in ours.parameters] == [
        (each.name, each.default is kinds.empty, each.kind is kinds.KEYWORD_ONLY) for each in named
    ]
    assert ours.accepts_any_keyword == any(each.kind is kinds.VAR_KEYWORD for each in theirs)
    assert ours.accepts_any_positional == any(each.kind is kinds.VAR_POSITIONAL for each in theirs)
    assert ours.kind == ("function" if name == "relu" else "class")
    assert f" {name}" in Path(ours.file).read_text().splitlines()[ours.line - 1]


def test_nothing_is_imported() -> None:
    code = """
        import sys
        from dltrain.config.signatures import check_arguments, read_signature
        from dltrain.config.targets import check_target
        for target in ("torch.optim.AdamW", "torch.nn.Linear", "torchvision.transforms.v2.Pad"):
            check_target(target)
            check_arguments(read_signature(target), {})
        print([name for name in sys.modules if name.startswith(("torch", "hydra", "omegaconf"))])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sig_data", raising=False)
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    """`{"package/module": text}` is written to package/module.py."""
    for name, text in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    importlib.invalidate_caches()


def names(target: str) -> list[str]:
    signature = read_signature(target)
    assert signature is not None
    return [each.name for each in signature.parameters]


def test_module_in_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, {"sig_here": "class Net:\n    def __init__(self, width): ..."})
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert names("sig_here.Net") == ["width"]


def test_an_edited_file_is_read_again(folder: Path) -> None:
    write(folder, {"sig_edited": "def make(a): ..."})
    assert names("sig_edited.make") == ["a"]
    write(folder, {"sig_edited": "def make(longer, b): ..."})
    assert names("sig_edited.make") == ["longer", "b"]


def test_namespace_packages_and_relative_imports(folder: Path) -> None:
    write(
        folder,
        {
            "sig_space/inner/core": "class Net:\n    def __init__(self, a): ...",
            "sig_space/inner/deep/api": "from ..core import Net as Network",
            "sig_space/inner/deep/more": "from .api import *\nfrom . import api",
        },
    )
    assert names("sig_space.inner.core.Net") == ["a"]
    assert names("sig_space.inner.deep.api.Network") == ["a"]
    assert names("sig_space.inner.deep.more.Network") == ["a"]
    assert names("sig_space.inner.deep.more.api.Network") == ["a"]


def test_reexports(folder: Path) -> None:
    core = """
        __all__ = ["Public"]
        class Public:
            def __init__(self, a): ...
        class Unlisted: ...
    """
    init = """
        from .core import *
        from . import core as renamed
        Alias = renamed.Public
        try:
            from .core import Unlisted as First
        except ImportError:
            First = None
        if True:
            from .core import Public as Second
        else:
            Second = 3
        NUMBER = 3
        made = dict()
    """
    write(folder, {"sig_re/__init__": init, "sig_re/core": core})
    assert (
        names("sig_re.Public") == names("sig_re.Alias") == names("sig_re.renamed.Public") == ["a"]
    )
    assert names("sig_re.First") == []
    assert names("sig_re.Second") == ["a"]
    assert read_signature("sig_re.made") is None
    with pytest.raises(TargetError, match=r"`sig_re\.NUMBER` is a value, not a class or function"):
        read_signature("sig_re.NUMBER")
    with pytest.raises(TargetError, match="there is no `Unlisted` in sig_re"):
        read_signature("sig_re.Unlisted")


def test_circular_imports_end(folder: Path) -> None:
    write(
        folder,
        {
            "sig_ring_a": "from sig_ring_b import *\nfrom sig_ring_b import x\nY = Z\nZ = Y",
            "sig_ring_b": "from sig_ring_a import *\nfrom sig_ring_a import x",
        },
    )
    with pytest.raises(TargetError, match="there is no `x`"):
        read_signature("sig_ring_a.x")
    with pytest.raises(TargetError, match="there is no `q`"):
        read_signature("sig_ring_a.q")
    assert read_signature("sig_ring_a.Y") is None


def test_a_class_hides_the_submodule_of_its_name(folder: Path) -> None:
    write(
        folder,
        {
            "sig_hide/__init__": "from .net import net",
            "sig_hide/net": "class net:\n    @classmethod\n    def small(cls, a): ...",
        },
    )
    assert names("sig_hide.net.net.small") == names("sig_hide.net.small") == ["a"]
    assert names("sig_hide.net") == []


def test_constructors_are_inherited_in_pythons_order(folder: Path) -> None:
    code = """
        from typing import Generic, TypeVar
        T = TypeVar("T")
        class Root:
            def __init__(self, root): ...
        class Left(Root): ...
        class Right(Root, Generic[T]):
            def __init__(self, right): ...
        class Diamond(Left, Right[int]): ...
        class New:
            def __new__(cls, new): ...
        class Plain(object): ...
        class Unread(int): ...
        class Borrowed:
            __init__ = Root.__init__
    """
    write(folder, {"sig_bases": code})
    assert names("sig_bases.Left") == ["root"]
    assert names("sig_bases.Diamond") == ["right"]
    assert names("sig_bases.New") == ["new"]
    assert names("sig_bases.Plain") == []
    assert read_signature("sig_bases.Unread") is None
    assert read_signature("sig_bases.Borrowed") is None


DATACLASSES = """
    import dataclasses
    from dataclasses import KW_ONLY, InitVar, dataclass, field
    from enum import Enum
    from typing import ClassVar, NamedTuple
    @dataclass
    class Base:
        a: int
        b: int = 1
        total: int = field(init=False)
        kind: ClassVar[str] = "x"
    @dataclasses.dataclass(order=True)
    class Child(Base):
        b: float = 2.0
        c: list = field(default_factory=list)
        seed: InitVar[int] = 0
        _: KW_ONLY
        d: str
    @dataclass(kw_only=True)
    class Keywords:
        a: int
        b: int = field(default=1, kw_only=False)
    @dataclass
    class Own:
        a: int
        def __init__(self, mine): ...
    class Pair(NamedTuple):
        left: int
        right: int = 0
    class Undecorated(Base):
        z: int
    class Color(Enum):
        RED = 1
"""


@pytest.mark.parametrize("name", ["Base", "Child", "Keywords", "Own", "Pair", "Undecorated"])
def test_dataclasses_and_named_tuples(folder: Path, name: str) -> None:
    write(folder, {"sig_data": DATACLASSES})
    theirs = inspect.signature(getattr(importlib.import_module("sig_data"), name)).parameters
    ours = read_signature(f"sig_data.{name}")
    assert ours is not None
    empty = inspect.Parameter.empty
    # As a set, since Python puts keyword-only fields last, and arguments of a yaml have no order.
    assert {(each.name, each.required, each.keyword_only) for each in ours.parameters} == {
        (each.name, each.default is empty, each.kind is each.KEYWORD_ONLY)
        for each in theirs.values()
    }


def test_what_cannot_be_read_is_not_judged(folder: Path) -> None:
    lazy = "def __getattr__(name): ...\ndef here(a): ..."
    write(
        folder,
        {"sig_lazy": lazy, "sig_data": DATACLASSES, "sig_uses": "from no_such_module_x import Y"},
    )
    assert read_signature("math.sqrt") is None
    assert read_signature("torch.Tensor.add") is None
    assert read_signature("sig_lazy.Anything") is None
    assert names("sig_lazy.here") == ["a"]
    assert read_signature("sig_data.Color") is None
    assert read_signature("sig_uses.Y") is None


def test_methods(folder: Path) -> None:
    code = """
        class Net:
            @classmethod
            def small(cls, a): ...
            @staticmethod
            def load(a, b): ...
            def forward(self, x): ...
        class Child(Net): ...
        class Outer:
            class Inner:
                def __init__(self, inner): ...
    """
    write(folder, {"sig_methods": code})
    assert names("sig_methods.Child.small") == ["a"]
    assert names("sig_methods.Net.load") == ["a", "b"]
    assert names("sig_methods.Outer.Inner") == ["inner"]
    with pytest.raises(TargetError, match="is a method of an instance"):
        read_signature("sig_methods.Net.forward")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("AdamW", "is not the full name of a class; write package.module.Name"),
        ("torch..AdamW", "is not the full name of a class"),
        ("torhc.optim.AdamW", "there is no module `torhc`; did you mean `torch`?"),
        ("qqqzzz.Net", "there is no module `qqqzzz`; install it, or start from the folder"),
        ("torch.optim.AdmW", "there is no `AdmW` in torch.optim; did you mean `torch.optim.AdamW`"),
        ("torch.optim.lr_schedulr.StepLR", "did you mean `torch.optim.lr_scheduler`?"),
        ("torch.nn.Linaer", "there is no `Linaer` in torch.nn; did you mean `torch.nn.Linear`"),
        ("torch.optim", "`torch.optim` is a module; name a class or function in it"),
        ("dltrain.confg.near.near_names", "there is no `confg` in dltrain; did you mean"),
        ("dltrain.config.near.CUTOFF", "is a value, not a class or function"),
    ],
)
def test_what_is_not_there(target: str, message: str) -> None:
    with pytest.raises(TargetError) as caught:
        read_signature(target)
    assert message in str(caught.value)
    assert len(str(caught.value)) <= 300


def test_a_file_that_does_not_parse_is_named(folder: Path) -> None:
    write(folder, {"sig_broken": "x = 1\ndef f(:\n    pass"})
    with pytest.raises(TargetError, match=r"sig_broken\.py, line 2: invalid syntax"):
        read_signature("sig_broken.f")


def problems(
    folder: Path, definition: str, arguments: dict[str, object], **more: bool
) -> list[str]:
    write(folder, {"sig_checked": definition})
    signature = read_signature("sig_checked.f")
    assert signature is not None
    return check_arguments(signature, arguments, **more)


def test_unknown_and_missing_arguments() -> None:
    signature = read_signature("torch.optim.AdamW")
    assert signature is not None
    assert check_arguments(signature, {"lr": 1e-3, "betas": [0.9, 0.99]}, partial=True) == []
    assert check_arguments(signature, {"_target_": "x", "_partial_": True}) == []
    assert check_arguments(signature, {"lr": 1}) == [
        "params is missing; torch.optim.AdamW requires it"
    ]
    [unknown] = check_arguments(signature, {"lerning_rate": 1}, partial=True, key="optimizer")
    assert unknown == (
        "optimizer.lerning_rate is not an argument of torch.optim.AdamW; did you mean "
        "`optimizer.lr`? (it takes lr, betas, eps, weight_decay, amsgrad, maximize, foreach, "
        "capturable, differentiable, fused)"
    )
    [wrong] = check_arguments(signature, {"lr": True}, partial=True, key="optimizer")
    assert wrong == "optimizer.lr is true; it must be a number (torch.optim.AdamW)"


def test_names_that_catch_all(folder: Path) -> None:
    assert problems(folder, "def f(a, **rest): ...", {"a": 1, "b": 2}) == []
    assert problems(folder, "def f(a, b, *, c): ...", {"_args_": [1, 2], "c": 3}) == []
    assert len(problems(folder, "def f(a, b, *, c): ...", {"_args_": [1, 2, 3]})) == 1
    assert len(problems(folder, "def f(a, /, b=1): ...", {"a": 1})) == 1


FINE, WRONG = True, False


@pytest.mark.parametrize(
    ("annotation", "value", "verdict"),
    [
        ("int", 1, FINE),
        ("int", True, WRONG),
        ("int", 1.0, WRONG),
        ("int", "1", WRONG),
        ("int", None, WRONG),
        ("float", 1, FINE),
        ("float", float("inf"), FINE),
        ("float", "1e-3", WRONG),
        ("float", False, WRONG),
        ("bool", True, FINE),
        ("bool", 1, WRONG),
        ("str", "x", FINE),
        ("str", 3, WRONG),
        ("float | Tensor", 0.1, FINE),
        ("float | Tensor", "abc", WRONG),
        ("Optional[int]", None, FINE),
        ("typing.Optional[int]", "x", WRONG),
        ("Union[int, Sequence[int]]", [1, 2], FINE),
        ("Union[int, Sequence[int]]", [1, "a"], WRONG),
        ("Union[int, Sequence[int]]", "ab", WRONG),
        ("int | None", None, FINE),
        ("'int | None'", "x", WRONG),
        ("tuple[float, float]", [0.9, 1], FINE),
        ("tuple[float, float]", [0.9], WRONG),
        ("tuple[float, float]", 0.9, WRONG),
        ("tuple[int, ...]", [1, 2, 3], FINE),
        ("tuple[int, ...]", [1, 2.5], WRONG),
        ("list[int]", [1], FINE),
        ("list[str]", "ab", WRONG),
        ("Literal['cos', 'linear']", "cos", FINE),
        ("Literal['cos', 'linear']", "exp", WRONG),
        ("Literal[1, 2]", True, WRONG),
        ("dict[str, int]", {"a": 1}, FINE),
        ("dict[str, int]", [1], WRONG),
        ("torch.nn.Module", {"_target_": "torch.nn.ReLU"}, FINE),
        ("int", "${dataset.num_classes}", FINE),
        ("int", "???", FINE),
        ("Callable[[Tensor], Tensor]", "relu", FINE),
        ("_size_2_t", "anything", FINE),
        ("int | SomethingUnknown", "x", FINE),
        ("Any", None, FINE),
        ("int", Path("a value that is not plain"), FINE),
    ],
)
def test_types(folder: Path, annotation: str, value: object, verdict: bool) -> None:
    found = problems(folder, f"def f(a: {annotation}): ...", {"a": value})
    assert (found == []) is verdict
    assert all("it must be" in problem for problem in found)


def test_an_annotation_that_its_own_default_contradicts_is_not_trusted(folder: Path) -> None:
    assert problems(folder, "def f(a: int = 'auto'): ...", {"a": 1.5}) == []
    assert problems(folder, "def f(a: int = None): ...", {"a": None}) == []
    assert problems(folder, "def f(a: int = None): ...", {"a": "x"}) == [
        "a is 'x'; it must be a whole number or null (sig_checked.f)"
    ]

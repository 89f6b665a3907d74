"""Nothing that is loaded is trusted: what would run, unpack or look up more than it should."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for room in ("src", "scripts") for path in (ROOT / room).rglob("*.py"))
# Names whose import is enough: each runs what a file says
NEVER_IMPORTED = {"marshal", "shelve", "dill", "cloudpickle", "joblib", "pickle", "cPickle", "code"}
# Calls that run what a text says, or that race for a temporary name
NEVER_CALLED = {
    "eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec",
    "os.system", "os.popen", "os.execv", "os.execvp", "os.spawnv", "subprocess.getoutput",
    "subprocess.getstatusoutput", "tempfile.mktemp", "torch.hub.load", "torch.jit.load",
    "torch.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "np.loads",
}  # fmt: skip
PLAIN_LOADERS = {"PARSER", "yaml.SafeLoader", "yaml.CSafeLoader"}
# file: why it imports what a variable names
IMPORTS_BY_NAME = {
    "src/dltrain/cli.py": "the module of a command, from a table in the file itself",
    "src/dltrain/build.py": "a `_target_`, checked against the allow list; by Hydra's get_object",
    "src/dltrain/sweeps/zygote.py": "what the process that has started it names; no file does",
    "src/dltrain/sweeps/fresh.py": "the same",
}


@cache
def calls(file: Path) -> list[tuple[str, ast.Call]]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    aliases = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    } | {
        alias.asname: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.asname
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, dot, rest = ast.unparse(node.func).partition(".")
            found.append((aliases.get(first, first) + dot + rest, node))
    return found


def problem(name: str, call: ast.Call, file: str) -> str | None:
    keywords = {each.arg: ast.unparse(each.value) for each in call.keywords}
    last = name.rpartition(".")[2]
    if name in NEVER_CALLED:
        return "is never called here"
    if last in ("loads", "load", "Unpickler") and "pickle" in name.lower().rpartition(".")[0]:
        return "unpickles"
    if keywords.get("shell", "False") != "False":
        return "starts a shell"
    if last == "load" and name.startswith(("numpy.", "np.")):
        if keywords.get("allow_pickle") != "False":
            return "must say allow_pickle=False"
    elif keywords.get("allow_pickle", "False") != "False":
        return "unpickles object arrays"
    if keywords.get("weights_only", "True") != "True":
        return "unpickles without limits"
    if last in ("extractall", "unpack_archive") and "filter" not in keywords:
        return "unpacks without a filter"
    if name in ("yaml.load", "yaml.parse", "yaml.compose"):
        loader = keywords.get("Loader") or (ast.unparse(call.args[1]) if call.args[1:] else "")
        return None if loader in PLAIN_LOADERS else "reads yaml with a loader that is not plain"
    if last in ("import_module", "get_object", "get_class", "get_method", "instantiate"):
        literal = bool(call.args) and isinstance(call.args[0], ast.Constant)
        return None if literal or file in IMPORTS_BY_NAME else "imports what a variable names"
    return None


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_loaded_runs(file):
    relative = file.relative_to(ROOT).as_posix()
    wrong = [
        f"{relative}:{call.lineno}: {name} {why}"
        for name, call in calls(file)
        if (why := problem(name, call, relative))
    ]
    assert not wrong, "\n".join(wrong)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        modules = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        assert not NEVER_IMPORTED & {module.partition(".")[0] for module in modules}, relative


def test_every_exception_is_still_needed():
    for name in IMPORTS_BY_NAME:
        by_name = ("import_module", "get_object", "instantiate")
        assert any(called.endswith(by_name) for called, _ in calls(ROOT / name)), name


FORBIDDEN = [
    "eval(x)", "exec(x)", "compile(x, '', 'exec')", "__import__(x)", "import os; os.system(x)",
    "from os import system; system(x)", "import os as o; o.popen(x)",
    "import subprocess; subprocess.run(x, shell=True)", "import torch; torch.load(x)",
    "import torch; torch.load(x, weights_only=False)", "import numpy as np; np.load(x)",
    "import numpy as np; np.load(x, allow_pickle=True)", "import torch; torch.jit.load(x)",
    "archive.extractall(x)", "import shutil; shutil.unpack_archive(x)",
    "import yaml; yaml.load(x, Loader=yaml.Loader)", "import yaml; yaml.unsafe_load(x)",
    "import yaml; yaml.load(x, yaml.FullLoader)", "from yaml import full_load; full_load(x)",
    "import importlib; importlib.import_module(x)", "import tempfile; tempfile.mktemp()",
    "from hydra.utils import instantiate; instantiate(x)", "import _pickle; _pickle.loads(x)",
]  # fmt: skip


@pytest.mark.parametrize("code", FORBIDDEN)
def test_the_search_finds_what_it_is_for(code, tmp_path):
    (tmp_path / "f.py").write_text(code)
    assert any(problem(name, call, "f.py") for name, call in calls(tmp_path / "f.py"))

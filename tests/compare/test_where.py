"""The grammar of --where: what it means, and that nothing else gets in."""

import contextlib
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dltrain.compare.where import parse
from dltrain.errors import UserError

PYTHON = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
          ">": operator.gt, ">=": operator.ge}  # fmt: skip
NUMBERS = st.one_of(st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False))


@given(NUMBERS, st.sampled_from(sorted(PYTHON)), NUMBERS, st.sampled_from(["", " ", "  "]))
def test_numbers_are_compared_as_python_compares_them(left, sign, right, space):
    (condition,) = parse(f"optimizer.lr{space}{sign}{space}{right!r}")
    assert condition.key == "optimizer.lr"
    assert condition.holds(left) == PYTHON[sign](float(left), float(right))


LETTERS = st.characters(categories=["L"])
WORDS = st.builds(
    "{}{}".format, LETTERS, st.text(st.one_of(LETTERS, st.sampled_from("._-0")), max_size=8)
)


@given(st.lists(st.tuples(WORDS, st.sampled_from(["==", "!="]), WORDS), min_size=1, max_size=5))
def test_conditions_are_joined_by_and(conditions):
    text = " and ".join(f"{key} {sign} '{value}'" for key, sign, value in conditions)
    assert [(c.key, c.operator, c.value) for c in parse(text)] == conditions


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text):
    with contextlib.suppress(UserError):
        assert parse(text)


@pytest.mark.parametrize(("value", "text", "holds"), [
    (True, "x==true", True), (True, "x==True", True), (True, "x==1", False), (1, "x==true", False),
    (None, "x==null", True), (None, "x!=0.5", True), (None, "x<5", False), (None, "x>=0", False),
    ("cnn", "x==cnn", True), ("cnn", "x != 'cnn'", False), ("cnn", "x==CNN", False),
    ("[256,256]", "x==[256, 256]", True), ("crop", "x>1", False),
    ("1e-3", "x==0.001", True), (0.001, "x==1e-3", True), ("5 epochs", "x=='5 epochs'", True),
    (64, "x==64.0", True), ("1_000", "x==1000", False), ("", "x==''", True),
    ("[32]", "x==32", True), ("[32]", "x>=16", True), ("[32]", "x==[32]", True),
    ("[32,16]", "x==32", False), ("[]", "x<1", False),
])  # fmt: skip
def test_a_value_and_a_condition(value, text, holds):
    (condition,) = parse(text)
    assert condition.holds(value) is holds


@pytest.mark.parametrize("text", [
    "lr=0.1", "lr", "lr==", "==1", "lr==1 or lr==2", "lr==1 and", "and lr==1", "lr==1,lr==2",
    "lr==1 lr==2", "lr==1and lr==2", "lr=='1'and lr==2",
    "__import__('os').system('x')", "lr<'a'", "lr<true",
    "1<lr<2", "(lr==1)(", "lr==1;x", "lr ~ 1", " ", "lr==" + "x" * 20_000,
])  # fmt: skip
def test_what_the_grammar_has_not_is_refused_in_a_line(text):
    with pytest.raises(UserError, match="--where") as caught:
        parse(text)
    assert len(str(caught.value)) < 300


def test_one_equals_sign_is_explained():
    with pytest.raises(UserError, match="equality is `==`"):
        parse("optimizer.lr = 0.1")

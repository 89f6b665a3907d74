"""A value that is written for an override is read back by Hydra as it was."""

from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dltrain.config.grammar import write

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
NUMBERS = st.integers() | st.floats(allow_nan=False)
VALUES = st.recursive(
    TEXT | NUMBERS | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc_.", min_size=1), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(VALUES)
@example("1e-3")
@example("null")
@example("range(1,3)")
@example("a,b")
@example("'quoted\\'")
@example("${oc.env:HOME}")
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read_back_as_the_same(value):
    override = OverridesParser.create().parse_override(f"key={write(value)}")
    assert not override.is_sweep_override()
    assert override.value() == value
    assert type(override.value()) is type(value)

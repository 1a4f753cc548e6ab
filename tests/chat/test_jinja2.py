"""The interpreter against jinja2, and goldens.json against a fresh rendering."""
import os
import pathlib

import fuzz_expressions
import make_goldens
import pytest

BUILD = pathlib.Path(os.environ.get("HYSPARSE_BUILD", pathlib.Path(__file__).parents[2] / "build" / "release"))


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("seed", [1, 2])
def test_random_templates(seed):
    assert fuzz_expressions.compare(str(BUILD / "tests" / "chat_driver"), 3000, seed) == []


def test_goldens_are_current():
    assert (pathlib.Path(__file__).parent / "goldens.json").read_text() == make_goldens.goldens()

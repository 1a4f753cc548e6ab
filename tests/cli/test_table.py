"""models/retrofit/table.py on SmolLM2, short windows and a few prompts: a model beside itself, and what is refused."""

import json
import re
import sys

import numpy as np
import pytest

from places import CACHE  # first: it sets the path
import table

PROMPTS = [{"kind": "question", "ask": ["What is the capital of France?"], "expect": "\\bparis\\b"},
           {"kind": "question", "ask": ["What is the capital of France?"], "expect": "no city of this name"},
           {"kind": "follow-up", "ask": ["What is the capital of Italy?", "It is Rome.", "And of Spain?"]}]
WINDOWS, LENGTH = 2, 1100


@pytest.fixture
def heldout(tmp_path):
    """Windows that say a quarter four times."""
    rng = np.random.default_rng(5)
    np.savez(tmp_path / "heldout.npz", text=np.tile(rng.integers(1000, 5000, (WINDOWS, LENGTH // 4)), 4).astype(np.uint16))
    return tmp_path / "heldout.npz"


def printed(monkeypatch, capsys, tmp_path, *arguments):
    """{first cell: other cells} of every row that table.py prints, tables one after another."""
    (tmp_path / "prompts.json").write_text(json.dumps(PROMPTS))
    monkeypatch.setattr(table, "PROMPTS", tmp_path / "prompts.json")
    monkeypatch.setattr(sys, "argv", ["table.py", *map(str, arguments)])
    table.main()
    rows = {}
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            first, *rest = (cell.strip() for cell in line.strip("|").split("|"))
            rows.setdefault(first, []).append(rest)
    return rows


def evaluated(path, perplexity):
    shown = {"ratio": [1.5, 1.4, 1.6], "agreement": [0.5, 0.4, 0.6]}
    rows = {name: {"to base": {key: shown for key in perplexity}} for name in table.UNSERVED}
    path.write_text(json.dumps({"base": {"perplexity": perplexity}, **rows}))
    return path


def test_a_model_beside_itself(heldout, monkeypatch, capsys, tmp_path):
    folder = tmp_path / "again"
    folder.symlink_to(CACHE / "models" / "smollm2-135m")
    rows = printed(monkeypatch, capsys, tmp_path, heldout, "--windows", WINDOWS, "--models", f"smollm2-135m,{folder}")
    perplexity, answers = rows["`smollm2-135m`"]
    ratio, agreement, again = rows["`again`"]
    first, *later = map(float, perplexity)  # what was said before is easy to foretell
    assert first > 5 > max(later) > 1
    assert set(ratio) == set(agreement) == {"1.000 [1.000, 1.000]"}
    assert answers[2] == "1 of 2" and answers == again and answers[3].startswith("1.00") and answers[4].startswith("1.000")
    assert re.match(r"-\d\.\d{3} \[-", answers[5]) and answers[0] == "45.00 MiB (1.00×)"


def test_rows_of_evaluate_are_of_the_same_windows(tmp_path):
    rng = np.random.default_rng(1)
    base = {"text": [rng.random((2, LENGTH - 1)), np.full((2, LENGTH - 1), "a")]}
    perplexity = table.perplexities(base)
    rows = table.unserved_rows(evaluated(tmp_path / "out.json", {key: value * 1.005 for key, value in perplexity.items()}), base)
    assert rows["random blocks"]["1-8k"]["ratio"] == [1.5, 1.4, 1.6]
    with pytest.raises(table.llama.Refused, match="other windows"):
        table.unserved_rows(evaluated(tmp_path / "out.json", {key: value * 1.05 for key, value in perplexity.items()}), base)
    (tmp_path / "out.json").write_text('{"base": {}}')
    with pytest.raises(table.llama.Refused, match="not what evaluate.py writes"):
        table.unserved_rows(tmp_path / "out.json", base)


@pytest.mark.parametrize("arguments, message", [
    (["nothing.npz"], "nothing.npz"), (["prompts.json"], "prompts.json is not the heldout.npz"),
    (["heldout.npz", "--windows", "3"], "--windows 3 is not between 1 and the 2"),
    (["heldout.npz", "--windows", "1", "--models", "no-such-model"], "no-such-model"),
])
def test_what_is_refused(heldout, monkeypatch, capsys, tmp_path, arguments, message):
    with pytest.raises(SystemExit) as ended:
        printed(monkeypatch, capsys, tmp_path, "--models", "smollm2-135m", tmp_path / arguments[0], *arguments[1:])
    assert message in str(ended.value) and len(str(ended.value).splitlines()) == 1

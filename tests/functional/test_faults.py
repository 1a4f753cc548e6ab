"""The questions would notice: planted alone, each fault costs some task ten points of accuracy or more. What it costs each
task is what `tests/functional/faults.py` prints."""

import functools
import os
import subprocess

import pytest

import faults  # first: it sets the path
import questions
import server_process
import setting


@pytest.fixture(scope="session")
def healthy():
    """healthy(exam): accuracy of the production binary, measured once."""
    return functools.cache(lambda exam: faults.accuracy(exam, binary=server_process.BINARY))


@pytest.mark.parametrize("fault, exam", faults.FAULTS.items(), ids=faults.FAULTS)
def test_a_fault_costs_accuracy(healthy, fault, exam):
    before, after = healthy(exam), faults.accuracy(exam, fault=fault)
    assert faults.fallen(before, after), f"healthy {before}\nfaulty {after}"


@pytest.mark.parametrize("fault", faults.BORNE)
def test_a_fault_that_is_borne_is_there(fault):
    """Its cost is too small for the questions, but not nothing."""
    best = []
    for name in (None, fault):
        with faults.serve(faults.SHORT, fault=name) as server:
            best.append(questions.Scored(server, questions.sequence(2048, 0)).best[1:].tolist())
    assert best[0] != best[1]


def test_without_a_fault_the_relinked_binary_is_the_production_one(healthy):
    assert faults.accuracy(faults.RETURN) == healthy(faults.RETURN)


def test_every_fault_that_can_be_planted_is():
    done = subprocess.run([setting.FAULTY, "generate", setting.FOLDER, "--prompt", "x"], env={**os.environ, "HYSPARSE_FAULT": "?"},
                          capture_output=True, text=True)
    named = done.stderr.strip().rsplit("it names one of ", 1)[-1].split(", ")
    assert done.returncode == 2 and sorted(named) == sorted([*faults.FAULTS, *faults.BORNE])

"""The questions would notice: planted alone, each fault costs some task ten points of accuracy or more. What it costs each
task is what `tests/functional/faults.py` prints."""

import os
import subprocess

import pytest

import faults
import setting
import server_process


@pytest.fixture(scope="session")
def healthy():
    return faults.accuracy(server_process.BINARY)


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_a_fault_costs_accuracy(healthy, fault):
    faulty = faults.accuracy(fault=fault)
    assert faults.fallen(healthy, faulty), f"healthy {healthy}\nfaulty {faulty}"


def test_without_a_fault_the_relinked_binary_is_the_production_one(healthy):
    assert faults.accuracy() == healthy


def test_every_fault_that_can_be_planted_is():
    done = subprocess.run([setting.FAULTY, "generate", setting.MINI, "--prompt", "x"], env={**os.environ, "HYSPARSE_FAULT": "?"},
                          capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.endswith("it names one of " + ", ".join(faults.FAULTS) + "\n")

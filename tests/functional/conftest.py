import functools

import pytest

import answers


@pytest.fixture(scope="session")
def server():
    with answers.large() as running:
        yield running
        assert running.process.poll() is None, running.log


@pytest.fixture(scope="session")
def small():
    with answers.small() as running:
        yield running
        assert running.process.poll() is None, running.log


@pytest.fixture(scope="session")
def scored(server):
    """scored(length): [Scored], computed once."""
    return functools.cache(lambda length: answers.score(server, length))


@pytest.fixture(scope="session")
def asked(small):
    """{length: (task, share right) pairs} of answers that were generated."""
    return answers.ask(small)

import pytest

import setting  # first: it sets the path
import questions
import server_process

# Sequences by length; at 2,048 tokens 4 blocks of 64 and a window of 128 leave most of the context unread.
SEQUENCES = {2048: 12, 8192: 4, 16384: 1}
# Steps so short that every prompt runs in chunks, among others' decodes.
CHUNKS = ["--max-num-batched-tokens", "256", "--max-num-seqs", "16"]


@pytest.fixture(scope="session")
def server():
    with server_process.Server(setting.MINI, "--kv-cache-memory", "256MiB", *CHUNKS) as running:
        yield running
        assert running.process.poll() is None, running.log


@pytest.fixture(scope="session")
def small():
    """A server whose KV cache holds one context of 8,192 tokens, or a few short ones, and no answer in advance."""
    with server_process.Server(setting.MINI, "--kv-cache-memory", "12MiB", "--output-reserve", "0", *CHUNKS) as running:
        yield running
        assert running.process.poll() is None, running.log


@pytest.fixture(scope="session")
def scored(server):
    """scored(length): [Scored], computed once."""
    done = {}

    def of(length):
        if length not in done:
            done[length] = questions.score(server, questions.sequences(length, SEQUENCES[length]))
        return done[length]

    return of


@pytest.fixture(scope="session")
def asked(small):
    """asked(length): (task, share right) of answers that were generated, computed once."""
    done = {}

    def of(length):
        if length not in done:
            done[length] = questions.ask(small, questions.sequences(length, SEQUENCES[length] // 2), 3)
        return done[length]

    return of

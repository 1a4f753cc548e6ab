"""The binary, the prepared model and small checkpoints for the suites of this folder. Needs numpy and pytest."""

import os
import signal
import subprocess

import pytest

from places import BINARY  # first: it sets the path
import hysparse_reference as reference


def clean_environment(**extra):
    """The environment without anybody's HYSPARSE_ options."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HYSPARSE_") or key == "HYSPARSE_CACHE"}
    return {**kept, **{key: str(value) for key, value in extra.items()}}


@pytest.fixture(scope="session")
def hysparse():
    """hysparse(*arguments, stdin="", env={}) runs the binary to its end."""

    def run(*arguments, stdin="", env=None, timeout=120):
        return subprocess.run([BINARY, *map(str, arguments)], input=stdin, env=clean_environment(**(env or {})),
                              capture_output=True, text=True, timeout=timeout)

    return run


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """checkpoint(preset, weights=True): the folder of a random checkpoint, made once."""
    made = {}

    def make(preset="tiny-hysparse", weights=True):
        if (preset, weights) not in made:
            folder = tmp_path_factory.mktemp("checkpoints") / preset
            reference.make(folder, preset, 7, weights)
            made[preset, weights] = folder
        return made[preset, weights]

    return make


class Server:
    """`hysparse serve` with free ports; `url` once it listens."""

    def __init__(self, *arguments, env=None):
        self.process = subprocess.Popen([BINARY, "serve", *map(str, arguments), "--port", "0", "--grpc-port", "off"],
                                        env=clean_environment(**(env or {})), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True)
        line = self.process.stdout.readline()
        assert line.startswith("listening on http://"), line + self.process.stderr.read()
        self.url = line.split()[-1]

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def end(self, timeout=30):
        """(exit code, log)"""
        _, log = self.process.communicate(timeout=timeout)
        return self.process.returncode, log


@pytest.fixture
def serve():
    servers = []

    def start(*arguments, env=None):
        servers.append(Server(*arguments, env=env))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()

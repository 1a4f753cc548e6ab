"""The real binary as a child process: started on free ports, ready when /readyz says so.

HYSPARSE_BIN    the binary; default: bin/hysparse of HYSPARSE_BUILD, else of build/release
HYSPARSE_MODEL  a model folder or the name of a prepared one; default: smollm2-135m
"""

import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import openai

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HYSPARSE_BUILD", ROOT / "build" / "release"))
BINARY = os.environ.get("HYSPARSE_BIN", str(BUILD / "bin" / "hysparse"))
MODEL = os.environ.get("HYSPARSE_MODEL", "smollm2-135m")
KEY = "a-key-for-tests"


class Server:
    """`hysparse serve MODEL …`; a context manager. `http` and `grpc` are HOST:PORT, `log` is what it wrote to stderr."""

    def __init__(self, model, *flags, wait=True, binary=BINARY, environment=None):
        self._log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        command = [binary, "serve", model, "--port", "0", "--grpc-port", "0", "--api-key", KEY, *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True,
                                        env={**os.environ, **(environment or {})})
        self.http, self.grpc = self._address("http"), self._address("grpc")
        self.base_url = f"http://{self.http}/v1"
        if wait:
            self.wait_ready()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def log(self):
        return pathlib.Path(self._log.name).read_text()

    def _address(self, scheme):
        line = self.process.stdout.readline()
        found = re.fullmatch(rf"listening on {scheme}://(\S+)\n", line)
        assert found, f"unexpected line {line!r}\n{self.log}"
        return found[1]

    def wait_ready(self, seconds=60):
        for _ in range(seconds * 20):
            assert self.process.poll() is None, self.log
            if self.get("/readyz")[0] == 200:
                return
            time.sleep(0.05)
        raise AssertionError(f"not ready after {seconds} s\n{self.log}")

    @property
    def port(self):
        return int(self.http.rsplit(":", 1)[1])

    def client(self, key=KEY):
        """The official client; no retries, so that every error shows."""
        return openai.OpenAI(base_url=self.base_url, api_key=key, max_retries=0, timeout=120)

    def status(self, path, key=KEY):
        return self.get(path, key)[0]

    def get(self, path, key=KEY):
        """(status, body) of a GET."""
        request = urllib.request.Request(f"http://{self.http}{path}", headers={"Authorization": f"Bearer {key}"} if key else {})
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name, **labels):
        """The sum of a metric's samples that carry `labels`."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            if re.match(rf"hysparse:{name}[{{ ]", line) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def wait_idle(self, seconds=10):
        """Waits until nothing runs or waits and no KV byte is referenced."""
        busy = None
        for _ in range(seconds * 20):
            busy = [self.metric("num_requests_running"), self.metric("num_requests_waiting"),
                    self.metric("kv_bytes", state="referenced")]
            if not any(busy):
                return
            time.sleep(0.05)
        raise AssertionError(f"still busy: running, waiting, KV bytes = {busy}")

    def stop(self):
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=60)
        finally:
            self.process.kill()
            self.process.stdout.close()
        return status

"""A model as `hysparse serve` serves it, over HTTP: scores of given tokens, answers of a chat. Standard library only.

The binary is bin/hysparse of HYSPARSE_BUILD, else of build/release.
"""

import json
import os
import pathlib
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import llama

BUILD = pathlib.Path(os.environ.get("HYSPARSE_BUILD") or pathlib.Path(__file__).resolve().parents[2] / "build" / "release")
BINARY = BUILD / "bin" / "hysparse"


def folder(model):
    """The folder of a model given as one or by name."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "hysparse"
    prepared = pathlib.Path(os.environ.get("HYSPARSE_CACHE") or cache) / "models" / model
    found = pathlib.Path(model) if pathlib.Path(model).is_dir() else prepared
    if not (found / "config.json").exists():
        raise llama.Refused(f"{found} is no model folder: models/get.sh makes the prepared ones")
    return found


def plan(model, context):
    """What `hysparse plan` says of a sequence of so many tokens."""
    done = subprocess.run([BINARY, "plan", str(model), "--context", str(context), "--json"], capture_output=True, text=True)
    if done.returncode:
        raise llama.Refused(done.stderr.strip())
    return json.loads(done.stdout)


class Served:
    """A context manager around the server; calls may come from several threads."""

    def __init__(self, model, *flags):
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen([BINARY, "serve", str(model), "--port", "0", "--grpc-port", "off", *flags],
                                         stdout=subprocess.PIPE, stderr=self._log, text=True)
        self._url = self._process.stdout.readline().removeprefix("listening on ").strip()

    def __enter__(self):
        try:
            while not self._url or not self._ready():
                if self._process.poll() is not None:
                    self._log.seek(0)
                    raise llama.Refused(self._log.read().strip().splitlines()[-1])
                time.sleep(0.1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()

    def _ready(self):
        try:
            return self._send("/readyz") is not None
        except urllib.error.HTTPError:
            return False

    def _send(self, path, body=None):
        request = urllib.request.Request(self._url + path, json.dumps(body).encode() if body else None,
                                         {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=1800) as reply:
            return reply.read()

    def call(self, path, **body):
        try:
            return json.loads(self._send(path, body))
        except urllib.error.HTTPError as error:
            raise llama.Refused(f"{path}: {json.loads(error.read())['error']['message']}") from None

    def score(self, ids):
        """(log-probability, text of the top token) of every token after the first."""
        reply = self.call("/v1/completions", prompt=[int(i) for i in ids], echo=True, logprobs=1, max_tokens=0)
        found = reply["choices"][0]["logprobs"]
        return found["token_logprobs"][1:], [max(top, key=top.get) for top in found["top_logprobs"][1:]]

    def tokenize(self, **prompt):
        """Ids of messages=[…], ready for the answer, or of prompt="…"."""
        return self.call("/tokenize", **prompt)["tokens"]

    def answer(self, messages, max_tokens):
        """The greedy answer's text."""
        reply = self.call("/v1/chat/completions", messages=messages, max_tokens=max_tokens, temperature=0)
        return reply["choices"][0]["message"]["content"]

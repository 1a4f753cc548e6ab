"""Recipes that start from another model: the base is prepared first, the committed differences are checked, nothing is half-made.

The recipes are toys; get.sh, ship.sh, apply.sh and export.py are the real ones.
"""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from places import CACHE, ROOT  # first: it sets the path
import test_retrofit as toys
import export

MODELS = ROOT / "models"
SCRIPTS = ["get.sh", "gguf.py", "requirements.txt", "retrofit/apply.sh", "retrofit/export.py", "retrofit/llama.py",
           "retrofit/ship.sh"]


def write_recipe(folder, script):
    folder.mkdir()
    (folder / "recipe.sh").write_text("#!/usr/bin/env bash\nset -euo pipefail\n" + script)
    (folder / "recipe.sh").chmod(0o755)


class Toys:
    """A folder of recipes, "toy" and "toy-student" made from it, and an empty cache."""

    def __init__(self, folder):
        self.recipes, self.cache, self.made = folder / "recipes", folder / "cache", folder / "made"
        self.student = self.recipes / "toy-student"
        (self.recipes / "retrofit").mkdir(parents=True)
        for name in SCRIPTS:
            shutil.copy(MODELS / name, self.recipes / name)
        toys.make_base(self.made / "toy")
        self.write_base("toy")
        self.make_deltas("toy")
        self.cache.mkdir()
        for path in CACHE.glob("venv-models-*"):
            (self.cache / path.name).symlink_to(path)
        assert self.ship("toy") == (0, "")
        export.merge(self.made / "toy", self.student / "deltas.safetensors", self.made / "result")

    def make_other(self):
        """made/other: as made/toy but for a byte."""
        weights = toys.make_base(self.made / "other") / "model.safetensors"
        weights.write_bytes(weights.read_bytes() + b"\0")

    def write_base(self, name):
        """A recipe that copies made/NAME."""
        write_recipe(self.recipes / name, f'cp -r "{self.made / name}" "$1"\n')
        sums = subprocess.run("sha256sum *", shell=True, cwd=self.made / name, capture_output=True, text=True, check=True).stdout
        (self.recipes / name / "SHA256SUMS").write_text(sums)

    def make_deltas(self, base):
        """made/deltas.safetensors of a student of made/BASE."""
        toys.make_student(self.made / base, self.made / "student.safetensors")
        export.deltas(self.made / base, self.made / "student.safetensors", self.made / "deltas.safetensors")

    def ship(self, base):
        """ship.sh on another cache: its exit status and what it says beside get.sh."""
        done = subprocess.run([self.recipes / "retrofit/ship.sh", "toy-student", base, self.made / "deltas.safetensors"],
                              env={**os.environ, "HYSPARSE_CACHE": str(self.made / "cache"), "PYTHON": sys.executable},
                              capture_output=True, text=True)
        return done.returncode, done.stderr.replace(f"preparing {base}\n", "")

    def start(self, name="toy-student"):
        return subprocess.Popen([self.recipes / "get.sh", name], env={**os.environ, "HYSPARSE_CACHE": str(self.cache)},
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def get(self, name="toy-student"):
        running = self.start(name)
        out, err = running.communicate(timeout=120)
        return running.returncode, out.strip(), err.splitlines()

    def prepared(self):
        return sorted(path.name for path in (self.cache / "models").iterdir())


@pytest.fixture
def toy(tmp_path):
    return Toys(tmp_path)


def refused(toy, message, before, left):
    """One line that holds `message`, after the lines `before`; only `left` is prepared."""
    code, out, err = toy.get()
    assert code == 1 and out == "" and err[:-1] == before and message in err[-1], err
    assert toy.prepared() == [".lock", *left]


def test_the_base_is_prepared_first_and_once(toy):
    folder = str(toy.cache / "models" / "toy-student")
    assert toy.get() == (0, folder, ["preparing toy", "preparing toy-student"])
    assert toy.prepared() == [".lock", "toy", "toy-student"]
    assert (toy.cache / "models/toy-student/model.safetensors").read_bytes() == (toy.made / "result/model.safetensors").read_bytes()
    assert toy.get() == (0, folder, [])
    shutil.rmtree(folder)
    assert toy.get() == (0, folder, ["preparing toy-student"])


def test_what_is_shipped_already_is_left_alone(toy):
    before = (toy.student / "deltas.safetensors").read_bytes()
    assert toy.ship("toy") == (1, "ship.sh: models/toy-student exists; remove it to make it again\n")
    assert (toy.student / "deltas.safetensors").read_bytes() == before


@pytest.mark.parametrize("kind", ["text", "student", "of another base"])
def test_differences_that_are_none_leave_no_recipe(toy, kind):
    shutil.rmtree(toy.student)
    deltas = toy.made / "deltas.safetensors"
    message = f"{deltas} is no safetensors file\n"
    if kind == "text":
        deltas.write_text("nothing")
    elif kind == "student":
        shutil.copy(toy.made / "student.safetensors", deltas)
        message = f"{deltas} is not what `export.py deltas` writes\n"
    else:
        toy.make_other()
        toy.make_deltas("other")
        message = "get that one\n"
    code, said = toy.ship("toy")
    assert code == 1 and said.endswith(message) and said.count("\n") == 1
    assert not list(toy.recipes.glob("*toy-student*")) and not list(toy.recipes.glob(".*"))


def test_several_at_once_make_it_once(toy):
    running = [toy.start() for _ in range(4)]
    logs = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0] * 4, logs
    assert sorted("".join(logs).splitlines()) == ["preparing toy", "preparing toy-student"]


def test_missing_or_damaged_differences(toy):
    deltas = toy.student / "deltas.safetensors"
    content = bytearray(deltas.read_bytes())
    content[-5] ^= 1
    deltas.write_bytes(content)
    message = f"{deltas} is missing or damaged: git checkout"
    refused(toy, message, ["preparing toy", "preparing toy-student"], ["toy"])
    deltas.unlink()
    refused(toy, message, ["preparing toy-student"], ["toy"])


def test_a_result_that_is_not_the_pinned_one(toy):
    sums = toy.student / "SHA256SUMS"
    sums.write_text("".join(f"{'0' * 64}  model.safetensors\n" if "model.s" in line else line + "\n"
                            for line in sums.read_text().splitlines()))
    refused(toy, "model.safetensors of the prepared toy-student is not what models/toy-student/SHA256SUMS says",
            ["preparing toy", "preparing toy-student"], ["toy"])


def test_differences_from_another_base(toy):
    toy.make_other()
    toy.write_base("other")
    toy.make_deltas("other")
    shutil.rmtree(toy.student)
    assert toy.ship("other") == (0, "")
    (toy.student / "base").write_text("toy\n")
    refused(toy, "is not the base that", ["preparing toy", "preparing toy-student"], ["toy"])


def test_a_base_that_cannot_be_made(toy):
    write_recipe(toy.recipes / "broken", 'echo "no network" >&2; exit 1\n')
    (toy.student / "base").write_text("broken\n")
    refused(toy, "no network", ["preparing broken"], [])


def test_an_interrupted_merge_leaves_no_model(toy):
    """Killed between its first and its last byte; the next run removes what it left."""
    models = toy.cache / "models"
    assert toy.get("toy")[0] == 0
    slow = toy.recipes / "retrofit" / "export.py"
    content = slow.read_text()
    slow.write_text(content.replace("        partial.rename(folder)\n", "        import time; time.sleep(60)\n"))
    assert slow.read_text() != content
    running = subprocess.Popen([toy.recipes / "get.sh", "toy-student"], env={**os.environ, "HYSPARSE_CACHE": str(toy.cache)},
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    while running.poll() is None and not list(models.glob(".toy-student.partial-*/model.safetensors")):
        pass
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert not (models / "toy-student").exists() and len(toy.prepared()) == 3
    slow.write_text(content)
    assert toy.get()[0] == 0 and toy.prepared() == [".lock", "toy", "toy-student"]

"""Where things are; what the suites import from other folders is put on the path. Imported before those."""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HYSPARSE_BUILD", ROOT / "build" / "release"))
BINARY = BUILD / "bin" / "hysparse"
sys.path[:0] = [str(ROOT / "models"), str(ROOT / "models" / "retrofit"), str(ROOT / "tests" / "golden"), str(ROOT / "loadtest" / "peers")]

from engine import CACHE  # noqa: E402, F401

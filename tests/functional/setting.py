"""Where things are; what the suite imports from other folders is put on the path. Imported before those.

HYSPARSE_MINI  a model folder or the name of a prepared one; default: hysparse-mini
"""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# At the end: models/mini has names (export, train, …) that other suites import from elsewhere.
sys.path += [str(ROOT / "tests" / "e2e"), str(ROOT / "models" / "mini")]

import server_process  # noqa: E402

MINI = os.environ.get("HYSPARSE_MINI", "hysparse-mini")
_CACHE = os.environ.get("HYSPARSE_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "hysparse")
FOLDER = pathlib.Path(MINI if os.path.isdir(MINI) else os.path.join(_CACHE, "models", MINI)).expanduser().resolve()
FAULTY = server_process.BUILD / "tests" / "hysparse_faulty"

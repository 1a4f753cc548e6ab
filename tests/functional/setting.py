"""Where things are; what the suite imports from other folders is put on the path. Imported before those.

HYSPARSE_MINI  a model folder or the name of a prepared one; default: hysparse-mini
"""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# At the end: models/mini has names (export, train, …) that other suites import from elsewhere.
sys.path += [str(ROOT / "tests" / "e2e"), str(ROOT / "tests" / "golden"), str(ROOT / "models" / "mini")]

import engine  # noqa: E402
import server_process  # noqa: E402

MINI = os.environ.get("HYSPARSE_MINI", "hysparse-mini")
FOLDER = (pathlib.Path(MINI) if os.path.isdir(MINI) else engine.CACHE / "models" / MINI).resolve()
FAULTY = server_process.BUILD / "tests" / "hysparse_faulty"

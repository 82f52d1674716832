"""The process that is fed, or that is fed again what was found.

fuzz/target.py --stats FILE --seconds N CORPUS    feed it for so long
fuzz/target.py CASE...                            feed it these files: what `make fuzz` left in build/fuzz
"""

from __future__ import annotations

import importlib.util
import io
import sys
from contextlib import redirect_stderr
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> None:
    """Feed, with code instrumented where there is somebody to tell what ran."""
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: inputs are changed by chance, whatever code they reach.", file=sys.stderr)
        from fuzz.feeding import main as feed

        feed(by_libfuzzer=False)
        return

    import atheris

    # Code is instrumented while it is imported, with a line on standard error for every module.
    with redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["handoff", "ml_server"]):
        from fuzz.feeding import main as feed
    feed(by_libfuzzer=True)


if __name__ == "__main__":
    main()

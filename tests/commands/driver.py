"""Run by another Python: every remote command, one after the other, as a person has nothing but an address and a key.

Reads a list of [words, standard input, what to keep of the JSON that is printed] and the names of heavy modules; prints for each
its exit code, what it printed, and which heavy modules it loaded. `{name}` in words is what an earlier one kept.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from sublet.cli import main


def run(words: list[str], given: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    sys.argv, sys.stdin = ["sublet", *words], io.StringIO(given)
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def driven() -> None:
    plan, heavy = json.loads(sys.argv[1])
    kept: dict[str, str] = {}
    told = []
    for words, given, saved in plan:
        before = set(sys.modules)
        code, out, err = run([word.format(**kept) for word in words], given.format(**kept))
        if saved and code:
            raise SystemExit(f"{' '.join(words)}: {err}")
        for name, path in saved.items():
            found = json.loads(out)
            for key in path.split("."):
                found = found[int(key)] if key.isdecimal() else found[key]
            kept[name] = found
        told.append(
            [words, code, out[-300:], err[-300:], sorted(set(heavy) & set(sys.modules) - before), len(sys.modules)]
        )
    print(json.dumps(told))


if __name__ == "__main__":
    driven()

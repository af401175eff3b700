"""The lines of an input file: read as they are needed, and checked before the first one is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from sublet.gateway.batches.model import ERRORS_MAX, LINE_BYTES_MAX, LINES_MAX, Problem, line_of
from sublet.values.errors import SubletError


class LineTooLongError(Exception):
    """A line has more than LINE_BYTES_MAX bytes."""


def lines_in(parts: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The lines that have something in them, each with its number from 1. Raises LineTooLongError."""
    number = 0
    rest = ""
    for part in parts:
        *whole, rest = (rest + part).split("\n")
        for text in whole:
            number += 1
            if text.strip():
                yield number, _bounded(text)
        _bounded(rest)
    if rest.strip():
        yield number + 1, rest


def _bounded(text: str) -> str:
    if len(text) > LINE_BYTES_MAX or len(text.encode()) > LINE_BYTES_MAX:
        raise LineTooLongError
    return text


def check_lines(
    parts: Iterable[str], endpoint: str, problem_with: Callable[[str], str]
) -> tuple[int, str, list[Problem]]:
    """How many lines there are, the model where all ask for one, and what is wrong with them. `problem_with` says why a model can't
    be asked, or nothing."""
    problems: list[Problem] = []
    seen: set[str] = set()
    models: dict[str, str] = {}
    count = 0
    try:
        for number, text in lines_in(parts):
            count += 1
            if count > LINES_MAX:
                problems.append(Problem("too_many_tasks", f"a batch may have at most {LINES_MAX:,} lines", number))
                break
            try:
                line, model = line_of(text, endpoint)
            except SubletError as error:
                problems.append(Problem("invalid_line", error.message, number, error.details.get("param")))
            else:
                if line.custom_id in seen:
                    words = f"custom_id {line.custom_id[:80]!r} is used twice; each line needs its own"
                    problems.append(Problem("duplicate_custom_id", words, number, "custom_id"))
                seen.add(line.custom_id)
                if model not in models:
                    models[model] = problem_with(model)
                if words := models[model]:
                    problems.append(Problem("model_not_found", words, number, "body.model"))
            if len(problems) >= ERRORS_MAX:
                break
    except LineTooLongError:
        words = f"a line has more than {LINE_BYTES_MAX // 1048576} MiB"
        problems.append(Problem("line_too_long", words, count + 1))
    if not count and not problems:
        problems.append(Problem("empty_file", "the input file has no lines"))
    return count, next(iter(models)) if len(models) == 1 else "", problems

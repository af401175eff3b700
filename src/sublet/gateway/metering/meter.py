"""What one request has used so far."""

from __future__ import annotations

from sublet.gateway.metering.estimate import prompt_tokens, text_tokens
from sublet.gateway.model import Tokens
from sublet.gateway.requests.call import Call

ENGINE, RUNNING, ESTIMATE = "engine", "running", "estimate"


class Meter:
    """What a request has used so far, and how that is known (`counted`).

    The better source wins: the engine's final count (ENGINE); its running count in each chunk (RUNNING); and where it has neither,
    an estimate from what was delivered (ESTIMATE, see estimate.py): at least one token for each chunk that carries text. The
    prompt is estimated at the end alone, by `finish`. upstream/engine_meter.py reads the counts.
    """

    __slots__ = ("_chunks", "_text_bytes", "final", "input", "input_cached", "output", "running")

    def __init__(self) -> None:
        self.input = 0
        self.input_cached = 0
        self.output = 0
        self.final = False
        self.running = False
        self._chunks = self._text_bytes = 0

    @property
    def counted(self) -> str:
        """How the counts are known, for the record."""
        return ENGINE if self.final else RUNNING if self.running else ESTIMATE

    def text(self, size: int) -> None:
        """Count a chunk of `size` bytes of text that is known to have nothing else to count."""
        if not self.final and not self.running:
            self._chunks += 1
            self._text_bytes += size
            self.output = max(self._chunks, text_tokens(self._text_bytes))

    def take(self, input: int, input_cached: int, output: int) -> None:
        """Take an engine's count."""
        self.input = max(input, 0)
        self.input_cached = min(max(input_cached, 0), self.input)
        self.output = max(output, 0)

    def finish(self, call: Call, answer: int = 0) -> None:
        """What was delivered and nobody counted is estimated: all of it, or the prompt or the answer alone where the engine
        reports nothing of it. `answer` is the estimate for a whole one, 0 for a stream."""
        output = self.output or answer or max(self._chunks, text_tokens(self._text_bytes))
        prompt = self.input or prompt_tokens(call)
        if (prompt, output) != (self.input, self.output):
            self.final = self.running = False
            self.input, self.output = prompt, output

    def tokens(self) -> Tokens:
        return Tokens(self.input, self.input_cached, self.output)

    def state(self) -> tuple[int, int, int, bool, bool, int, int]:
        """The counts, for `restore`."""
        return (
            self.input,
            self.input_cached,
            self.output,
            self.final,
            self.running,
            self._chunks,
            self._text_bytes,
        )

    def restore(self, state: tuple[int, int, int, bool, bool, int, int]) -> None:
        self.input, self.input_cached, self.output, self.final, self.running, self._chunks, self._text_bytes = state

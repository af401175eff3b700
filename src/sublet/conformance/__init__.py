"""What every backend, engine, feed, price form and surface must do, as checks that anybody can run on their own.

Each module has `CHECKS`, and a stage that says what is checked. With pytest:

    @pytest.mark.parametrize("check", backends.CHECKS, ids=str)
    def test_it_conforms(check: Check[BackendStage]) -> None:
        check(my_stage())

A check raises NonconformingError with a sentence where a promise is broken.
"""

from sublet.conformance.check import Check, NonconformingError

__all__ = ["Check", "NonconformingError"]

"""The histories on which the engine and the reference are compared."""

from kronos_space.verification import verify
from kronos_space.verification.cases import made_up


def test_the_verification_cases_fit_the_context_and_cover_the_relevant_variations() -> None:
    cases = verify.cases(256)

    sizes = [len(case.history["timestamp"]) + len(case.targets) for case in cases]
    assert max(sizes) == 256, "one fills the context"
    assert len({len(case.targets) for case in cases}) >= 3
    assert {"volume" in case.history for case in cases} == {True, False}
    assert {case.name for case in cases} >= {"AAPL", "MSFT", "IBM"}
    for case in cases:
        case.parsed()  # raises if a candle or a time is impossible


def test_made_up_histories_depend_on_the_seed_only() -> None:
    first, again, other = (made_up("walk", bars=40, horizon=2, seed=seed) for seed in (1, 1, 2))

    assert first == again
    assert first.history["close"] != other.history["close"]
    assert len(set(first.history["timestamp"] + first.targets)) == 42

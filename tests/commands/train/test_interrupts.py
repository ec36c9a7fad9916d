import signal
import threading

import pytest

from cnctl.commands.train.interrupts import stop_on_signals


def work_through(*, signals: int, done: list[str]) -> None:
    with stop_on_signals() as stop:
        assert not stop
        for number in range(signals):
            signal.raise_signal(signal.SIGINT)
            assert stop
            done.append(f"step {number}")


def test_a_signal_waits_for_the_end_of_the_block_and_is_raised_again() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        work_through(signals=1, done=done)
    assert done == ["step 0"]


def test_a_second_one_does_not_wait() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        work_through(signals=2, done=done)
    assert done == ["step 0"]


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_on_signals():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_error_in_the_block_comes_through() -> None:
    with pytest.raises(ValueError, match="own"), stop_on_signals():
        raise ValueError("own")


def test_other_threads_catch_nothing() -> None:
    seen = []

    def work() -> None:
        with stop_on_signals() as stop:
            seen.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop
    finally:
        signal.signal(signal.SIGINT, before)

from __future__ import annotations

import contextlib
import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.adapters.host import Host, Sample, Sampler
from cordee.domain.replica import UNKNOWN, Signals

PERCENTS = st.none() | st.floats(allow_nan=True, allow_infinity=True)
SAMPLES = st.builds(Sample, PERCENTS, PERCENTS, PERCENTS)


def test_before_the_first_sample_nothing_is_known():
    assert Host().signals() == Signals(UNKNOWN, UNKNOWN, UNKNOWN)


def test_a_sample_loses_all_but_a_third_of_its_weight_over_the_window():
    host = Host(window_s=10.0, period_s=1.0)
    host.note(Sample(100.0, 50.0, None))
    assert host.signals() == Signals(100, 50, UNKNOWN)
    for _ in range(10):
        host.note(Sample(0.0, 50.0, None))
    assert host.signals() == Signals(round(100 * math.exp(-1)), 50, UNKNOWN)


def test_what_is_no_longer_known_is_not_remembered():
    host = Host()
    host.note(Sample(10.0, 10.0, 90.0))
    host.note(Sample(10.0, 10.0, None))
    assert host.signals().gpu == UNKNOWN


@given(st.lists(SAMPLES, max_size=20))
def test_signals_are_a_percentage_or_unknown_whatever_the_samples_say(samples: list[Sample]):
    host = Host(window_s=2.0)
    for sample in samples:
        host.note(sample)
        for value in (host.signals().cpu, host.signals().memory, host.signals().gpu):
            assert 0 <= value <= 100 or value == UNKNOWN


def test_samples_come_from_the_thread_until_it_is_stopped_and_an_error_does_not_end_them():
    sampled = threading.Event()
    count = 0

    def sample() -> Sample:
        nonlocal count
        count += 1
        if count == 1:
            raise OSError("for once")
        sampled.set()
        return Sample(42.0, 43.0, 44.0)

    host = Host(sample=sample, period_s=0.001)
    host.start()
    assert sampled.wait(5)
    host.stop()
    thread = host._thread
    assert thread is not None
    thread.join(5)
    assert not thread.is_alive()
    assert host.signals() == Signals(42, 43, 44)


def test_the_real_host_says_something_about_its_processors_and_memory():
    with contextlib.ExitStack() as stack:
        sample = Sampler(stack).sample()
    assert sample.cpu is not None
    assert 0 <= sample.cpu <= 100
    assert sample.memory is not None
    assert 0 < sample.memory <= 100
    assert sample.gpu is None or sample.gpu == pytest.approx(sample.gpu, abs=100)

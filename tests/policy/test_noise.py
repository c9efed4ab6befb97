from __future__ import annotations

from statistics import fmean

from cordee.policy.noise import bits, mixed, uniform


def test_noise_depends_on_seed_and_position_alone():
    assert uniform(7, 3) == uniform(7, 3)
    assert len({bits(seed, position) for seed in range(50) for position in range(50)}) == 2500


def test_noise_is_the_same_on_every_machine():
    assert mixed(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF  # SplitMix64's first output for seed 0


def test_noise_fills_the_unit_interval_evenly():
    draws = [uniform(1, position) for position in range(10_000)]
    assert all(0 <= u < 1 for u in draws)
    assert abs(fmean(draws) - 0.5) < 0.01
    assert all(900 < sum(k / 10 <= u < (k + 1) / 10 for u in draws) < 1100 for k in range(10))


def test_neighbouring_seeds_are_no_shifted_copies():
    one, two = ([bits(seed, position) for position in range(100)] for seed in (1, 2))
    assert not set(one) & set(two)


def test_seeds_count_modulo_two_to_the_64():
    assert bits(-1, 0) == bits(2**64 - 1, 0)

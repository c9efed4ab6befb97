from pathlib import Path

import pytest

from cordee.adapters.guests.figures import NAMES, STEPS, Figures, FiguresError, read

GOLDEN = Path(__file__).parent / "golden"


def test_the_page_of_a_real_vllm_is_understood():
    page = (GOLDEN / "vllm-0.32-metrics.txt").read_bytes()
    assert read(page, NAMES["vllm"]) == Figures(0, 0, 0, 46_592, 0)


def test_the_page_that_sglang_documents_is_understood():
    page = (GOLDEN / "sglang-metrics.txt").read_bytes()
    assert read(page, NAMES["sglang"]) == Figures(5, 2, 28_000, 100_000, 15_686_474)


def test_the_figures_of_several_engines_are_added_up():
    engines = [
        f'vllm:num_requests_running{{engine="{n}"}} {n + 1}\nvllm:num_requests_waiting{{engine="{n}"}} {n}\n'
        f'vllm:kv_cache_usage_perc{{engine="{n}"}} 0.5\nvllm:generation_tokens_total{{engine="{n}"}} 1e3\n'
        f'vllm:cache_config_info{{engine="{n}",kv_cache_size_tokens="1000"}} 1.0\n'
        for n in range(2)
    ]
    assert read("".join(engines).encode(), NAMES["vllm"]) == Figures(3, 1, 1000, 2000, 2000)


def test_releases_that_tell_blocks_instead_of_tokens_are_understood():
    page = b'vllm:num_requests_running 1\nvllm:cache_config_info{block_size="16",num_gpu_blocks="100"} 1.0\n'
    assert read(page, NAMES["vllm"]).tokens_max == 1600


def test_a_label_may_hold_what_looks_like_the_end_of_labels():
    page = b'vllm:num_requests_running{model_name="a} 7 \\"b"} 3.0\n'
    assert read(page, NAMES["vllm"]).running == 3


def test_what_is_not_a_number_counts_as_nothing():
    assert read(b"vllm:num_requests_running 2\nvllm:kv_cache_usage_perc NaN\n", NAMES["vllm"]).tokens == 0


def test_counts_of_a_long_life_start_again():
    page = f"vllm:num_requests_running 0\nvllm:generation_tokens_total {STEPS + 5}\n".encode()
    assert read(page, NAMES["vllm"]).steps == 5


@pytest.mark.parametrize(
    "page", [b"", b"<html></html>", b"sglang:num_running_reqs 1\n", b"vllm:num_requests_running many\n"]
)
def test_a_page_without_its_figures_is_an_error_that_names_what_is_missing(page):
    with pytest.raises(FiguresError, match="vllm:num_requests_running"):
        read(page, NAMES["vllm"])

from hypothesis import given
from hypothesis import strategies as st

from cordee.domain.replica import Gpu
from cordee.link import frames

NUMBERS = st.none() | st.floats(0, 1e6)
BYTES = st.none() | st.integers(0, 1 << 50)
GPUS = st.builds(Gpu, st.integers(0, 1023), st.text(max_size=20), NUMBERS, BYTES, BYTES, NUMBERS, NUMBERS)


@given(st.lists(GPUS, max_size=4).map(tuple))
def test_what_is_told_of_accelerators_is_what_is_heard(found):
    [(kind, payload)] = frames.Splitter().feed(frames.gpus(found))
    assert kind == frames.GPUS
    assert frames.read_gpus(payload) == found

from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from darkpy.plan import ALIGNMENT, Lifetime, place

arrays = st.lists(
    st.builds(
        lambda nbytes, first, length: Lifetime("a", nbytes, first, first + length),
        st.integers(0, 5000),
        st.integers(0, 20),
        st.integers(0, 10),
    ),
    max_size=30,
)


@given(arrays)
def test_live_arrays_never_overlap(lifetimes):
    total = place(lifetimes)
    for i, a in enumerate(lifetimes):
        assert a.offset % ALIGNMENT == 0
        assert a.offset + a.nbytes <= total
        for b in lifetimes[i + 1 :]:
            if a.overlaps(b) and a.nbytes and b.nbytes:
                assert a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset


@given(arrays)
def test_placing_is_deterministic_and_no_worse_than_no_sharing(lifetimes):
    again = copy.deepcopy(lifetimes)
    total = place(lifetimes)
    assert total == place(again)
    assert [a.offset for a in lifetimes] == [a.offset for a in again]
    assert total <= sum(-(-a.nbytes // ALIGNMENT) * ALIGNMENT for a in lifetimes)


def test_a_chain_needs_two_buffers():
    chain = [Lifetime(str(i), 1024, i, i + 1) for i in range(10)]
    assert place(chain) == 2048

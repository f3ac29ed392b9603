"""ROS times and nanoseconds."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from hdmap_ros.stamps import ns_to_parts, stamp_to_ns


@given(st.integers(-(2**31) * 10**9, 2**31 * 10**9 - 1))
def test_there_and_back(stamp_ns: int) -> None:
    """Before 1970 as well: the nanoseconds never are negative."""
    parts = ns_to_parts(stamp_ns)
    assert 0 <= parts["nanosec"] < 10**9 and -(2**31) <= parts["sec"] < 2**31
    assert stamp_to_ns(SimpleNamespace(**parts)) == stamp_ns

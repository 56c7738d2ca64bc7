from hypothesis import given
from hypothesis import strategies as st

from anomaly_devcluster.controllers.rolling import Limits, Size, grown, shrunk


def test_surge_percentages_are_rounded_up_and_unavailable_ones_down():
    assert Limits.resolve(3, "25%", "25%") == Limits(1, 0)
    assert Limits.resolve(10, "25%", "25%") == Limits(3, 2)


def test_a_rolling_update_can_always_take_a_step():
    assert Limits.resolve(3, 0, "10%") == Limits(0, 1)


def test_the_new_set_grows_into_the_room_that_the_surge_leaves():
    assert grown(3, Limits(1, 0), Size("new", 0), [Size("old", 3, 3)]) == 1


def test_the_new_set_shrinks_at_once_when_fewer_pods_are_wanted():
    assert grown(2, Limits(1, 0), Size("new", 5, 5), []) == 2


def test_old_pods_stay_until_new_ones_are_available():
    limits = Limits(1, 0)
    assert shrunk(3, limits, Size("new", 1, 0), [Size("old", 3, 3)]) == {}
    assert shrunk(3, limits, Size("new", 1, 1), [Size("old", 3, 3)]) == {"old": 2}


def test_old_pods_that_are_not_available_go_first():
    old = [Size("first", 2, 2), Size("second", 2, 0)]
    assert shrunk(3, Limits(1, 1), Size("new", 0, 0), old) == {"second": 0}


@given(
    replicas=st.integers(0, 12),
    surge=st.one_of(st.integers(0, 5), st.sampled_from(["0%", "25%", "100%"])),
    unavailable=st.one_of(st.integers(0, 5), st.sampled_from(["0%", "25%", "100%"])),
    old=st.integers(0, 12),
    ready=st.lists(st.booleans(), min_size=1, max_size=60),
)
def test_an_update_ends_and_never_leaves_its_limits(replicas, surge, unavailable, old, ready):
    """Play an update in which pods become available in any order; all that start must become available in the end."""
    limits = Limits.resolve(replicas, surge, unavailable)
    new, olds = Size("new", 0, 0), Size("old", old, old)
    start = old
    for step in [*ready, *([True] * 60)]:
        size = grown(replicas, limits, new, [olds])
        new = Size("new", size, min(new.available, size))
        assert new.wanted + olds.wanted <= max(start, replicas + limits.surge)
        size = shrunk(replicas, limits, new, [olds]).get("old", olds.wanted)
        olds = Size("old", size, min(olds.available, size))
        assert new.available + olds.available >= min(replicas - limits.unavailable, start)
        if step:
            new = Size("new", new.wanted, min(new.wanted, new.available + 1))
    assert (new.wanted, new.available, olds.wanted) == (replicas, replicas, 0)

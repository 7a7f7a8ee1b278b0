"""Threads that share work with the caller."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wcodec.api.crew import Crew


@given(st.integers(1, 4), st.lists(st.integers(0, 5), max_size=30), st.integers(1, 8))
def test_results_come_in_order(threads, items, ahead):
    with Crew(threads) as crew:
        assert list(crew.ordered(lambda i: 3 * i, items, ahead, lambda i: i)) == [3 * i for i in items]
        assert crew.map(str, items) == [str(i) for i in items]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_no_more_is_begun_than_allowed(threads):
    begun, taken = [], 0
    with Crew(threads) as crew:
        for _ in crew.ordered(begun.append, range(20), 3):
            taken += 1
            assert len(begun) <= taken + 3
    assert len(begun) == 20


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_error_comes_out_where_the_result_would(threads):
    def work(i):
        if i == 5:
            raise KeyError(i)
        return i

    seen = []
    with pytest.raises(KeyError), Crew(threads) as crew:
        for found in crew.ordered(work, range(100), 4):
            seen.append(found)
    assert seen == list(range(5))
    with Crew(threads) as crew:
        task = crew.start(lambda: work(5))
        with pytest.raises(KeyError):
            crew.result(task)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_tasks_may_have_tasks(threads):
    with Crew(threads) as crew:
        found = crew.map(lambda i: sum(crew.map(lambda j: i * j, range(7))), range(40))
    assert found == [21 * i for i in range(40)]


@pytest.mark.parametrize("threads", [2, 3])
def test_what_has_not_begun_is_dropped_when_the_caller_fails(threads):
    """Helpers that are in the middle of tasks of tasks must come to an end too."""
    done = []

    def work(i):
        crew.map(lambda _: time.sleep(0.001), range(4))
        done.append(i)

    before = threading.active_count()
    with pytest.raises(ValueError, match="stop"), Crew(threads) as crew:
        for i in range(200):
            crew.start(lambda i=i: work(i))
        raise ValueError("stop")
    assert len(done) < 200
    assert threading.active_count() <= before

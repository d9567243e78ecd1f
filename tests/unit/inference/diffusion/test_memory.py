from hypothesis import given
from hypothesis import strategies as st

from inference.diffusion.memory import RowAllocator, Run
from inference.diffusion.scheduler import Demand, admit


def test_freed_neighbours_become_one_run_again():
    rows = RowAllocator(10)
    first, second, third = (rows.allocate(n) for n in (3, 3, 4))
    assert rows.allocate(1) is None
    rows.free(first)
    rows.free(third)
    assert rows.allocate(5) is None, "seven rows are free, but not together"
    rows.free(second)
    assert rows.allocate(10) == Run(0, 10)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=60))
def test_runs_never_overlap_and_nothing_leaks(actions):
    rows, held = RowAllocator(100), []
    for is_allocation, number in actions:
        if is_allocation:
            run = rows.allocate(number)
            if run is not None:
                held.append(run)
        elif held:
            rows.free(held.pop(number % len(held)))
        taken = [row for run in held for row in range(run.start, run.end)]
        assert len(taken) == len(set(taken))
        assert all(0 <= row < 100 for row in taken)
        assert rows.num_free == 100 - len(taken)
    for run in held:
        rows.free(run)
    assert rows.allocate(100) == Run(0, 100)


demands = st.lists(st.builds(Demand, st.integers(1, 50), st.integers(1, 30)), max_size=12)


@given(demands, st.integers(0, 200), st.integers(0, 100), st.integers(0, 3))
def test_admission_keeps_order_and_budgets(waiting, free_rows, prefill_budget, num_live):
    count = admit(waiting, free_rows=free_rows, prefill_budget=prefill_budget, num_live=num_live)
    entered = waiting[:count]
    assert sum(demand.num_rows for demand in entered) <= free_rows
    if num_live or count > 1:
        assert sum(demand.prompt_tokens for demand in entered) <= prefill_budget
    if count < len(waiting):
        one_more = waiting[: count + 1]
        fits = sum(demand.num_rows for demand in one_more) <= free_rows
        within = sum(demand.prompt_tokens for demand in one_more) <= prefill_budget
        assert not (fits and (within or (num_live == 0 and count == 0)))


def test_an_idle_engine_takes_a_prompt_beyond_the_budget():
    long_call = Demand(prompt_tokens=900, canvas_tokens=100)
    assert admit([long_call], free_rows=1_000, prefill_budget=512, num_live=0) == 1
    assert admit([long_call], free_rows=1_000, prefill_budget=512, num_live=1) == 0

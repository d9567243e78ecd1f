from hypothesis import given
from hypothesis import strategies as st

from inference.diffusion.memory import RowAllocator, Run
from inference.diffusion.scheduler import Demand, Room, admit


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


demands = st.lists(
    st.builds(Demand, st.integers(1, 50), st.integers(1, 30), st.integers(1, 4)), max_size=12
)
rooms = st.builds(Room, st.integers(0, 200), st.integers(0, 20), st.integers(0, 100))


@given(demands, rooms, st.booleans())
def test_admission_keeps_order_and_budgets(waiting, room, is_idle):
    def fits(calls):
        return (
            sum(demand.num_rows for demand in calls) <= room.rows
            and sum(demand.num_canvases for demand in calls) <= room.canvases
        )

    def in_time(calls):
        within = sum(demand.prompt_tokens for demand in calls) <= room.prefill_tokens
        return within or (is_idle and len(calls) == 1)

    count = admit(waiting, room, is_idle=is_idle)
    if count:
        assert fits(waiting[:count])
        assert in_time(waiting[:count])
    if count < len(waiting):
        assert not (fits(waiting[: count + 1]) and in_time(waiting[: count + 1]))


def test_an_idle_engine_takes_a_prompt_beyond_the_budget():
    long_call = Demand(prompt_tokens=900, canvas_tokens=100, num_canvases=3)
    room = Room(rows=1_000, canvases=3, prefill_tokens=512)
    assert admit([long_call], room, is_idle=True) == 1
    assert admit([long_call], room, is_idle=False) == 0

"""What the host knows of steps that it has launched."""

import pytest

from inference.diffusion.device.step_layout import Seat, likely_fills


def seat_after(*num_masked, num_launched):
    """A seat whose steps have left so many positions masked, from the start on, with so many steps launched."""
    seat = Seat(None, 0, num_open=50, num_masked=num_masked[0])
    for step, left in enumerate(num_masked[1:], start=1):
        seat.num_open = seat.num_masked  # as a launch does
        seat.advance(left, is_newest=step == num_launched)
    return seat


@pytest.mark.parametrize(
    ("num_launched", "num_open"),
    [(3, 20), (2, 30)],
    ids=["one step is on its way", "no step is on its way"],
)
def test_what_the_last_step_committed_is_computed_once_more(num_launched, num_open):
    seat = seat_after(40, 30, 20, num_launched=num_launched)
    assert seat.num_masked == 20
    assert seat.num_open == num_open


def test_a_batch_is_likely_filled_when_every_canvas_is():
    ending = seat_after(30, 12, num_launched=2)
    going_on = seat_after(30, 16, num_launched=2)
    fresh = Seat(None, 1, num_open=9, num_masked=9)
    empty = Seat(None, 2, num_open=9, num_masked=0)
    assert likely_fills([ending])
    assert likely_fills([ending, empty])
    assert not likely_fills([ending, going_on])
    assert not likely_fills([ending, fresh])
    assert not likely_fills([])

"""The clocks, on a time that the test sets."""

import torch

from sam_bench.training.clock import WARMUP_STEPS, Clock


def make_clock():
    time = [0.0]
    return Clock(torch.device("cpu"), now=lambda: time[0]), time


def test_a_clock_inside_stops_the_one_around_it():
    clock, time = make_clock()
    with clock.running("train"):
        time[0] += 3
        with clock.running("setup"):
            time[0] += 10
        time[0] += 4
    time[0] += 100
    assert clock.seconds == {"train": 7.0, "eval": 0.0, "setup": 10.0}


def test_throughput_leaves_out_the_first_steps():
    clock, time = make_clock()
    assert clock.throughput is None
    with clock.running("train"):
        for seconds in [50.0] * WARMUP_STEPS + [2.0, 2.0]:
            time[0] += seconds
            clock.count(8)
    assert clock.throughput == 16 / 4
    assert clock.seconds["train"] == 50 * WARMUP_STEPS + 4


def test_a_run_of_warm_up_steps_alone_has_no_throughput():
    clock, time = make_clock()
    with clock.running("train"):
        for _ in range(WARMUP_STEPS):
            clock.count(8)
        time[0] += 1
    assert clock.throughput is None


def test_throughput_counts_no_pause_between_epochs():
    clock, time = make_clock()
    for _ in range(2):
        with clock.running("train"):
            for _ in range(WARMUP_STEPS + 1):
                time[0] += 1
                clock.count(2)
        with clock.running("eval"):
            time[0] += 1000
    assert clock.throughput == 2.0


def test_a_resumed_clock_goes_on():
    clock, time = make_clock()
    with clock.running("train"):
        for _ in range(WARMUP_STEPS + 2):
            time[0] += 1
            clock.count(5)
    again, time = make_clock()
    with again.running("setup"):
        time[0] += 7
    again.load_state_dict(clock.state_dict())
    assert again.seconds == {"train": WARMUP_STEPS + 2.0, "eval": 0.0, "setup": 7.0}
    assert again.throughput == clock.throughput == 5.0


def test_read_includes_the_running_stretch():
    clock, time = make_clock()
    with clock.running("train"):
        time[0] += 2
        assert clock.read("train") == 2.0
        assert clock.read("eval") == 0.0

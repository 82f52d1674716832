"""The scaling policy, step by step, in simulations of a queue, and whatever it is told."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff.contracts.protocols import UNKNOWN_BACKLOG, Backlog
from ml_server.scaling import LONGEST_WAITS, ScalingPolicy, ScalingRules
from tests.scaling_simulation import Machine, Simulation

RULES = ScalingRules(
    min_workers=1, max_workers=8, backlog_per_worker=64, oldest_unacked_age_s=30.0, scale_down_after_s=60.0
)
FEWER = ScalingRules(
    min_workers=2, max_workers=3, backlog_per_worker=64, oldest_unacked_age_s=30.0, scale_down_after_s=60.0
)
LATE = ScalingRules(
    min_workers=1, max_workers=8, backlog_per_worker=64, oldest_unacked_age_s=30.0, scale_down_after_s=300.0
)
# Cloud Monitoring's figures of Pub/Sub.
LAGGING = Machine(figures_lag_s=120)
HOUR_S = 3600


def waiting(count: int | None, *, age_s: float | None = None) -> Backlog:
    """A backlog."""
    return Backlog(count=count, oldest_unacked_age_s=age_s)


def burst(now: int) -> float:
    """2,000 requests at once."""
    return 2000.0 if now == 10 else 0.0


def ramp(now: int) -> float:
    """Ever more for ten minutes, up to six workers' work, then nothing."""
    return now / 10 if now < 600 else 0.0


def steady(now: int) -> float:
    """One and a half workers' work, for an hour."""
    return 15.0 if now < HOUR_S else 0.0


def swinging(now: int) -> float:
    """For an hour, six workers' work for 20 of every 90 seconds."""
    return 60.0 if now < HOUR_S and now % 90 < 20 else 0.0


def silence(_now: int) -> float:
    """Nothing."""
    return 0.0


@pytest.mark.parametrize(
    ("count", "workers", "recommended"),
    [
        (0, 4, 1),
        (64, 1, 1),
        (70, 1, 1),  # within the tolerance
        (71, 1, 2),
        (129, 2, 2),
        (129, 1, 3),
        (256, 4, 4),
        (577, 10, 8),  # the tolerance of ten workers, cut to eight
        (1_000_000, 1, 8),
        (None, 3, 3),
        (None, 9, 8),
    ],
)
def test_a_worker_for_so_much_backlog(count: int | None, workers: int, recommended: int) -> None:
    """Rounded up, within bounds; as many as there are where the broker cannot tell."""
    assert RULES.recommend(waiting(count), workers=workers) == recommended


@pytest.mark.parametrize(
    ("count", "age_s", "workers", "recommended"),
    [
        (10, 30.0, 1, 1),
        (10, 30.1, 1, 2),
        (10, 1e9, 4, 5),
        (10, 1e9, 8, 8),
        (2, 95.0, 2, 2),  # a third worker would have nothing to do
        (1, 1e9, 1, 1),  # as one request that is tried again and again
        (500, 35.0, 1, 8),
        (None, 95.0, 3, 3),
    ],
)
def test_old_requests_call_for_a_worker_even_where_they_are_few(
    count: int | None, age_s: float, workers: int, recommended: int
) -> None:
    """One more while the oldest is over the bound, but none without a request."""
    assert RULES.recommend(waiting(count, age_s=age_s), workers=workers) == recommended


def test_a_worker_gets_time_before_another_joins_for_age() -> None:
    """A request that is old stays old until it is answered; meanwhile nobody goes either."""
    policy, workers, rises = ScalingPolicy(RULES), 1, []
    for now in range(0, 200, 2):
        wanted = policy.wanted(waiting(20, age_s=100.0 + now), workers=workers, now_s=float(now))
        if wanted != workers:
            rises.append((now, wanted))
        workers = wanted
    assert rises == [(0, 2), (30, 3), (60, 4), (90, 5), (120, 6), (150, 7), (180, 8)]


def test_up_at_once_but_at_most_doubling() -> None:
    """A first worker is joined by one, not by seven."""
    policy, workers, counts = ScalingPolicy(RULES), 1, []
    for now in range(0, 8, 2):
        workers = policy.wanted(waiting(10_000), workers=workers, now_s=float(now))
        counts.append(workers)
    assert counts == [2, 4, 8, 8]


def falling_from(workers: int, policy: ScalingPolicy, *, count: int = 0, seconds: int = 400) -> list[tuple[int, int]]:
    """The changes, as (when, to how many), while a small backlog stays as it is."""
    changes = []
    for now in range(0, seconds, 2):
        wanted = policy.wanted(waiting(count), workers=workers, now_s=float(now))
        if wanted != workers:
            changes.append((now, wanted))
        workers = wanted
    return changes


def test_down_late_and_by_half_at_most() -> None:
    """Each step waits as long; it ends at the minimum."""
    assert falling_from(8, ScalingPolicy(RULES)) == [(60, 4), (122, 2), (184, 1)]
    assert falling_from(3, ScalingPolicy(FEWER)) == [(60, 2)]


def test_down_only_to_what_was_recommended_in_the_wait() -> None:
    """The highest of it counts, so a moment's calm takes nobody away."""
    policy = ScalingPolicy(RULES)
    assert [policy.wanted(waiting(count), workers=8, now_s=0.0) for count in (512, 0)] == [8, 8]
    assert policy.wanted(waiting(440), workers=8, now_s=30.0) == 8
    assert policy.wanted(waiting(0), workers=8, now_s=61.0) == 7
    assert policy.wanted(waiting(0), workers=7, now_s=119.0) == 7


def test_without_a_wait_two_readings_still_have_to_agree() -> None:
    """A recommendation holds until the next one."""
    hasty = ScalingRules(
        min_workers=1, max_workers=8, backlog_per_worker=64, oldest_unacked_age_s=30.0, scale_down_after_s=0.0
    )
    assert falling_from(8, ScalingPolicy(hasty), seconds=20) == [(2, 4), (6, 2), (10, 1)]


def test_nobody_goes_while_the_backlog_grows() -> None:
    """However small it is."""
    policy, workers = ScalingPolicy(RULES), 4
    for now in range(0, 120, 2):
        workers = policy.wanted(waiting(now // 2), workers=workers, now_s=float(now))
        assert workers == 4
    assert policy.wanted(waiting(59), workers=4, now_s=120.0) == 2


def test_an_unknown_backlog_changes_nothing() -> None:
    """What was known before is no reason either, and the wait begins anew."""
    policy = ScalingPolicy(RULES)
    for now in range(0, 600, 2):
        assert policy.wanted(UNKNOWN_BACKLOG, workers=4, now_s=float(now)) == 4
    assert policy.wanted(waiting(0), workers=4, now_s=600.0) == 4
    assert policy.wanted(waiting(0), workers=4, now_s=658.0) == 4
    assert policy.wanted(waiting(0), workers=4, now_s=660.0) == 2
    assert ScalingPolicy(FEWER).wanted(UNKNOWN_BACKLOG, workers=1, now_s=0.0) == FEWER.min_workers


@pytest.mark.parametrize("arrivals", [burst, ramp, steady, swinging])
@pytest.mark.parametrize("rules", [RULES, FEWER], ids=["1-8", "2-3"])
@pytest.mark.parametrize("machine", [Machine(), Machine(start_s=20), LAGGING], ids=["quick", "slow-start", "lagging"])
def test_the_backlog_is_worked_off_and_the_workers_go(
    arrivals: Callable[[int], float], rules: ScalingRules, machine: Machine
) -> None:
    """Within bounds at every moment, never fewer while more waits, and at the minimum in the end."""
    run = Simulation(rules, machine).run(arrivals, seconds=HOUR_S + 1800)
    assert rules.min_workers <= min(run.workers) <= max(run.workers) <= rules.max_workers
    assert max(run.workers) > rules.min_workers or run.highest_backlog < 1.1 * 64 * rules.min_workers
    assert all((after.count or 0) <= (before.count or 0) for before, after in run.falls())
    assert run.moments[-1].backlog.count == 0
    assert run.workers[-1] == rules.min_workers


def test_a_burst_is_met_by_every_worker_and_forgotten() -> None:
    """Three steps up within seconds, gone in a few steps within minutes."""
    run = Simulation(RULES).run(burst, seconds=300)
    assert run.workers[9:16] == [1, 2, 2, 4, 4, 8, 8]
    assert run.changes == 7
    assert run.workers[-1] == 1


def test_a_ramp_is_followed() -> None:
    """Nobody waits for long: each worker has a minute's work before it at most."""
    run = Simulation(RULES).run(ramp, seconds=600)
    assert max(run.workers) == 6
    assert run.highest_backlog <= 6 * 64 * 1.1
    assert max(moment.backlog.oldest_unacked_age_s or 0.0 for moment in run.moments) < 10


@pytest.mark.parametrize("workers", [1.5, 2.5, 5.5])
@pytest.mark.parametrize("served_per_s", [1.0, 10.0, 100.0])
def test_a_steady_load_between_two_numbers_of_workers_does_not_flap(workers: float, served_per_s: float) -> None:
    """One worker too few is tried ever more rarely; without that, it would be a change in 32 seconds."""
    run = Simulation(RULES, Machine(served_per_s=served_per_s)).run(
        lambda _: workers * served_per_s, seconds=2 * HOUR_S
    )
    assert run.changes <= 2 * HOUR_S / 120
    assert sum(run.workers[-HOUR_S:]) / HOUR_S <= math.ceil(workers) + 1
    assert max(moment.backlog.oldest_unacked_age_s or 0.0 for moment in run.moments) < 60


def test_a_swinging_load_is_not_followed_up_and_down() -> None:
    """Forty swings end in fewer changes than one a swing; short ones in none at all."""
    assert Simulation(RULES).run(swinging, seconds=HOUR_S).changes <= 45
    assert Simulation(RULES).run(lambda now: 30.0 if now % 20 < 10 else 0.0, seconds=HOUR_S).changes == 1


def test_late_figures_are_followed_late_but_without_flapping() -> None:
    """With the wait that the settings file advises for them, changes stay rare and nothing is left behind."""
    run = Simulation(LATE, LAGGING).run(steady, seconds=2 * HOUR_S)
    assert run.changes <= 35
    assert run.moments[-1].backlog.count == 0
    assert run.workers[-1] == 1


def test_silence_keeps_the_minimum() -> None:
    """Nothing happens when nothing happens."""
    run = Simulation(FEWER).run(silence, seconds=HOUR_S)
    assert (run.changes, run.workers[-1]) == (0, 2)


def test_few_large_requests_get_more_workers() -> None:
    """Sixty of two seconds each are one worker's count, but not one worker's work."""
    run = Simulation(RULES, Machine(served_per_s=0.5)).run(lambda now: 60.0 if now == 10 else 0.0, seconds=600)
    assert max(run.workers) == 3
    assert run.workers[-1] == 1


def test_the_wait_is_learnt_and_forgotten() -> None:
    """A scale-down taken back at once doubles the next wait, up to a bound; one that lasted resets it."""
    policy, now, waits = ScalingPolicy(RULES), 0.0, []

    def fall() -> float:
        nonlocal now
        begin = now
        while policy.wanted(waiting(0), workers=2, now_s=now) == 2:
            now += 2.0
        return now - begin

    for _ in range(6):
        waits.append(fall())
        now += 2.0
        assert policy.wanted(waiting(200), workers=1, now_s=now) == 2
        now += 2.0
    assert waits == [60.0, 120.0, 240.0, 480.0, 480.0, 480.0]
    assert waits[-1] == LONGEST_WAITS * RULES.scale_down_after_s
    fall()
    now += 1000.0
    assert policy.wanted(waiting(200), workers=1, now_s=now) == 2
    now += 2.0
    assert fall() == 60.0


readings = st.builds(
    waiting,
    st.none() | st.integers(0, 5_000) | st.integers(0, 2**62),
    age_s=st.none() | st.floats(0, 1e9),
)


@given(
    st.lists(st.tuples(readings, st.floats(0, 500)), min_size=1, max_size=60),
    st.integers(1, 5),
    st.integers(0, 20),
    st.integers(1, 1000),
    st.floats(0, 100),
)
def test_whatever_it_is_told_the_number_stays_within_bounds(
    told: list[tuple[Backlog, float]], fewest: int, more: int, per_worker: int, wait_s: float
) -> None:
    """Never more than twice, never less than half, never fewer while more waits, never a change on no figure."""
    rules = ScalingRules(
        min_workers=fewest,
        max_workers=fewest + more,
        backlog_per_worker=per_worker,
        oldest_unacked_age_s=30.0,
        scale_down_after_s=wait_s,
    )
    policy, workers, now, last = ScalingPolicy(rules), fewest, 0.0, None
    for backlog, pause_s in told:
        now += pause_s
        wanted = policy.wanted(backlog, workers=workers, now_s=now)
        assert rules.min_workers <= wanted <= rules.max_workers
        assert workers / 2 <= wanted <= 2 * workers
        if backlog.count is None:
            assert wanted == workers
        elif last is not None and backlog.count > last:
            assert wanted >= workers
        workers, last = wanted, backlog.count

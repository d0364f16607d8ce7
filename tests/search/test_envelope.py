"""The envelope: never above a point, never extrapolated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_prune.search.envelope import Envelope, Point

POINTS = st.lists(
    st.builds(Point, st.integers(0, 100).map(float), st.integers(1, 100).map(float)), min_size=1, max_size=12
)


def test_dominated_points_do_not_count() -> None:
    envelope = Envelope.of([Point(0.9, 4.0), Point(0.8, 2.0), Point(0.85, 5.0), Point(0.8, 3.0)])
    assert envelope.points == (Point(0.8, 2.0), Point(0.9, 4.0))


def test_between_two_points_the_latency_is_linear() -> None:
    envelope = Envelope.of([Point(0.8, 2.0), Point(0.9, 4.0)])
    assert envelope.latency_at(0.875) == pytest.approx(3.5)
    assert envelope.latency_at(0.9) == 4.0


def test_nothing_is_extrapolated() -> None:
    envelope = Envelope.of([Point(0.8, 2.0), Point(0.9, 4.0)])
    assert envelope.latency_at(0.79) is None
    assert envelope.latency_at(0.91) is None
    assert Envelope.of([]).latency_at(0.5) is None


@given(POINTS)
def test_every_point_is_matched_or_beaten(points: list[Point]) -> None:
    envelope = Envelope.of(points)
    for point in points:
        assert any(best.worth >= point.worth and best.latency_s <= point.latency_s for best in envelope.points)


@given(POINTS, st.floats(0, 100))
def test_the_envelope_rises_and_stays_inside_its_points(points: list[Point], worth: float) -> None:
    envelope = Envelope.of(points)
    latencies = [point.latency_s for point in envelope.points]
    assert latencies == sorted(set(latencies))
    found = envelope.latency_at(worth)
    if found is not None:
        assert latencies[0] <= found <= latencies[-1]


@given(POINTS)
def test_the_order_of_points_does_not_matter(points: list[Point]) -> None:
    assert Envelope.of(points) == Envelope.of(reversed(points))

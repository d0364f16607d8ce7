"""What the uniform baseline offers at an accuracy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_prune.jobs.baseline import UniformPoint, envelope_of, offer_at
from tvm_prune.report.summary import Figures

DENSE = Figures(latency_ms=2.0, accuracy=0.95, macs=1000, params=100)


def point(relative: float, accuracy: float, macs: int = 500) -> UniformPoint:
    return UniformPoint(label=f"{relative}", relative=relative, accuracy=accuracy, macs=macs, params=macs // 10)


def test_between_two_networks_all_figures_are_interpolated() -> None:
    offer = offer_at([point(0.5, 0.90, 400), point(0.7, 0.94, 600)], 0.92, dense=DENSE)
    assert offer is not None
    assert offer.note == ""
    assert offer.figures.latency_ms == pytest.approx(0.6 * DENSE.latency_ms)
    assert offer.figures.accuracy == pytest.approx(0.92)
    assert (offer.figures.macs, offer.figures.params) == (500, 50)


def test_the_dense_network_is_the_upper_end() -> None:
    offer = offer_at([point(0.5, 0.90)], 0.95, dense=DENSE)
    assert offer is not None
    assert offer.figures == DENSE


def test_below_the_least_accurate_network_the_fastest_one_stands_in() -> None:
    offer = offer_at([point(0.5, 0.90), point(0.6, 0.89)], 0.5, dense=DENSE)
    assert offer is not None
    assert offer.figures.latency_ms == pytest.approx(1.0)
    assert "more accurate than that" in offer.note


def test_above_the_most_accurate_network_that_one_stands_in_and_is_named() -> None:
    offer = offer_at([point(0.5, 0.96)], 0.97, dense=DENSE)
    assert offer is not None
    assert offer.figures.latency_ms == pytest.approx(1.0)
    assert "No uniform network is as accurate; the most accurate one (0.5) stands in" in offer.note


def test_a_network_that_beats_the_dense_one_removes_it_from_the_envelope() -> None:
    assert [each.label for each in envelope_of([point(0.5, 0.96), point(0.6, 0.90)], dense=DENSE)] == ["0.5"]


def test_without_networks_nothing_is_offered() -> None:
    assert offer_at([], 0.9, dense=DENSE) is None
    assert envelope_of([], dense=DENSE) == ()


networks = st.lists(
    st.builds(point, st.floats(min_value=0.05, max_value=1.2), st.floats(min_value=0.1, max_value=0.99)), min_size=1
)


@given(networks, st.floats(min_value=0.0, max_value=1.0))
def test_no_network_of_at_least_the_accuracy_is_faster_than_the_ends_allow(
    points: list[UniformPoint], accuracy: float
) -> None:
    offer = offer_at(points, accuracy, dense=DENSE)
    assert offer is not None
    fastest = min(each.relative for each in (*points, point(1.0, DENSE.accuracy)))
    assert offer.figures.latency_ms >= fastest * DENSE.latency_ms - 1e-9
    good = [each.relative for each in (*points, point(1.0, DENSE.accuracy)) if each.accuracy >= accuracy]
    if good:
        assert offer.figures.latency_ms <= min(good) * DENSE.latency_ms + 1e-9


def test_a_factor_is_given_only_where_the_baseline_is_as_accurate_or_worse() -> None:
    points = [point(0.5, 0.90), point(0.7, 0.94)]
    between, below, above = (offer_at(points, accuracy, dense=DENSE) for accuracy in (0.92, 0.8, 0.99))
    assert between is not None
    assert below is not None
    assert above is not None
    assert between.versus(0.6) == pytest.approx(2.0)
    assert (between.bound, below.bound, above.bound) == ("exact", "at most", "at least")
    # A less accurate network that is faster says nothing at equal accuracy; one that is slower is beaten for certain.
    assert below.versus(0.5) is None
    assert below.versus(2.0) == pytest.approx(0.5)
    assert above.versus(0.5) == pytest.approx(4.0)

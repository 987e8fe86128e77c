import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fimp.data import geographic_graph
from fimp.data.geography import EARTH_MILES, unit_vectors
from fimp.errors import FIMPError

# Degrees apart by about 7 miles at most, so that some neighbours are inside of 10 miles and some outside.
near = st.integers(-3, 3).map(lambda step: step / 30)
centres = st.sampled_from([(0.0, 0.0), (0.0, 180.0), (51.0, -180.0), (89.95, 40.0), (-89.95, 0.0), (30.0, 360.0)])


@st.composite
def places(draw):
    latitude, longitude = [], []
    for _ in range(draw(st.integers(1, 3))):
        north, east = draw(centres)
        for _ in range(draw(st.integers(0, 7))):
            latitude.append(float(np.clip(north + draw(near), -90, 90)))
            # All directions at a pole, and the same point by two names.
            around = draw(st.integers(0, 11)) * 30.0 if abs(north) > 80 else draw(near)
            longitude.append((east + around + 180.0) % 360.0 - 180.0 + 360.0 * draw(st.booleans()))
    longitude = [degrees - 360.0 if degrees > 360.0 else degrees for degrees in longitude]
    return np.array(latitude), np.array(longitude)


def haversine(latitude, longitude):
    """Miles between all pairs, by a formula of its own."""
    phi, theta = np.deg2rad(latitude), np.deg2rad(longitude)
    across = np.sin((phi[:, None] - phi) / 2) ** 2
    across = across + np.cos(phi[:, None]) * np.cos(phi) * np.sin((theta[:, None] - theta) / 2) ** 2
    return 2 * EARTH_MILES * np.arcsin(np.sqrt(np.clip(across, 0, 1)))


def wanted(latitude, longitude, radius, most, place=None):
    """Sources of every node, by brute force."""
    miles = haversine(latitude, longitude)
    out = []
    for node in range(len(latitude)):
        others = [other for other in range(len(latitude)) if other != node]
        mates = [other for other in others if place is not None and place[node] and place[other] == place[node]]
        rest = [other for other in others if miles[node, other] <= radius and other not in mates]
        rest.sort(key=lambda other: (miles[node, other], other))
        out.append(mates + rest[: max(0, most - len(mates))])
    return out


def sources(edges, count):
    assert edges.dtype == torch.int64
    assert (edges[1].diff() >= 0).all()
    return [edges[0, edges[1] == node].tolist() for node in range(count)]


@settings(max_examples=150, deadline=None)
@given(places(), st.sampled_from([0.01, 5.1, 10.0, 33.3, 20000.0]), st.integers(1, 9), st.booleans(), st.data())
def test_the_graph_is_that_of_brute_force(points, radius, most, grouped, data):
    count = len(points[0])
    label = st.sampled_from(["a", "b", None, ""])
    place = data.draw(st.lists(label, min_size=count, max_size=count)) if grouped else None
    miles = haversine(*points)
    found = sources(geographic_graph(*points, radius, most, place), count)
    for node, (have, want) in enumerate(zip(found, wanted(*points, radius, most, place), strict=True)):
        assert len(set(have)) == len(have) == len(want)
        assert node not in have
        mates = [other for other in want if place is not None and place[node] and place[other] == place[node]]
        assert have[: len(mates)] == mates
        # Which of equally near ones it is differs by rounding; how far they are does not. Both formulas are coarse for
        # antipodes.
        assert np.allclose(miles[node, have], miles[node, want], rtol=0, atol=1e-6 if radius < 12000 else 0.05)


def test_many_random_places_agree_with_brute_force():
    generator = np.random.default_rng(0)
    latitude, longitude = np.degrees(np.arcsin(generator.uniform(-1, 1, 800))), generator.uniform(-180, 360, 800)
    edges = geographic_graph(latitude, longitude, 400.0, 5)
    assert sources(edges, 800) == wanted(latitude, longitude, 400.0, 5)


def test_the_dateline_and_the_pole_are_no_borders():
    assert geographic_graph([0, 0], [179.95, -179.95]).size(1) == 2
    assert geographic_graph([89.95, 89.95, -89.95], [0.0, 180.0, 0.0]).tolist() == [[1, 0], [0, 1]]
    assert geographic_graph([90, 90], [0, 123]).size(1) == 2


def test_nodes_at_one_place_are_neighbours_first_numbers_first():
    edges = geographic_graph(np.full(50, 30.0), np.full(50, 265.0), max_neighbors=3)
    assert sources(edges, 50)[0] == [1, 2, 3]
    assert sources(edges, 50)[2] == [0, 1, 3]
    assert sources(edges, 50)[49] == [0, 1, 2]


def test_equally_near_ones_beyond_the_cap_stand_first():
    # Twelve nodes around a pole, one at it: more ties than are asked for at first.
    edges = geographic_graph([90.0, *[89.95] * 12], [0.0, *np.arange(12) * 30.0], max_neighbors=2)
    assert sources(edges, 13)[0] == [1, 2]


def test_a_place_is_joined_over_any_distance_and_takes_seats_first():
    latitude, longitude = [0.0, 0.01, 0.02, 60.0, -60.0], [0.0] * 5
    place = np.array(["x", "", "", "x", np.nan], dtype=object)
    assert sources(geographic_graph(latitude, longitude, 10, 1, place), 5) == [[3], [0], [1], [0], []]
    assert sources(geographic_graph(latitude, longitude, 10, 2, place), 5)[0] == [3, 1]
    # More than there are seats: all of them, and no others.
    assert sources(geographic_graph(latitude, longitude, 10, 1, [7, 7, 1, 7, 2]), 5)[0] == [1, 3]


@given(places(), st.randoms(use_true_random=False))
def test_the_order_of_nodes_does_not_matter(points, random):
    latitude, longitude = points
    order = np.array(random.sample(range(len(latitude)), len(latitude)), dtype=np.int64)
    # Without a cap there are no ties to decide.
    first = geographic_graph(latitude, longitude, max_neighbors=100)
    second = geographic_graph(latitude[order], longitude[order], max_neighbors=100)
    mapped = torch.from_numpy(order)[second]
    assert set(map(tuple, first.T.tolist())) == set(map(tuple, mapped.T.tolist()))


def test_without_nodes_there_are_no_edges():
    assert geographic_graph([], []).shape == (2, 0)
    assert geographic_graph([1.0], [2.0], place=["a"]).shape == (2, 0)


def test_unit_vectors_have_length_one_and_known_axes():
    vectors = unit_vectors([0, 0, 90, -33], [0, 90, 12, 250])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.allclose(vectors[:3], np.eye(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([91.0], [0.0]), r"latitude\[0\] is 91, wanted degrees from -90 to 90"),
        (([0.0, np.nan], [0.0, 0.0]), r"latitude\[1\] is nan"),
        (([0.0], [361.0]), r"longitude\[0\] is 361, wanted degrees from -180 to 360"),
        (([0.0], [np.inf]), r"longitude\[0\] is inf"),
        (([0.0], [0.0, 1.0]), "latitude has 1 values and longitude 2"),
        (([[0.0]], [0.0]), r"latitude has shape \[1, 1\]"),
        ((["a"], [0.0]), "wanted degrees"),
        (([0.0], [0.0], 0.0), "radius_miles is 0.0, wanted miles above 0"),
        (([0.0], [0.0], float("nan")), "radius_miles is nan"),
        (([0.0], [0.0], 1.0, 0), "max_neighbors is 0, wanted at least 1"),
        (([0.0], [0.0], 1.0, 1, ["a", "b"]), "place has 2 labels for 1 nodes"),
        (([0.0] * 1001, [0.0] * 1001, 1.0, 1, ["a"] * 1001), "1,001 rows of 'a', wanted at most 1,000"),
    ],
)
def test_what_cannot_be_used_is_an_error(arguments, message):
    with pytest.raises(FIMPError, match=message):
        geographic_graph(*arguments)

"""Street plans of the second edition."""

import numpy as np
import pytest
from shapely import LineString

from hdmap_core.datasets.synthetic.curve import total_length
from hdmap_core.datasets.synthetic.streets.junctions import LayoutError
from hdmap_core.datasets.synthetic.streets.roads import Network
from hdmap_core.datasets.synthetic.streets.street_plan import BORDER_M, LEAST_STREET_M, generate_plan

SIZE = (320.0, 320.0)


@pytest.fixture(scope="module")
def networks() -> list[Network]:
    found = []
    for seed in range(16):
        try:
            found.append(generate_plan(np.random.default_rng(seed), SIZE))
        except LayoutError:
            continue
    return found


def test_most_draws_are_of_use(networks: list[Network]) -> None:
    assert len(networks) >= 13
    assert len({len(network.roads) for network in networks}) > 3


def test_streets_meet_in_tees_more_than_in_crossroads_and_some_end(networks: list[Network]) -> None:
    arms = np.bincount([len(arms) for network in networks for arms in network.arms], minlength=5)
    assert arms[3] > arms[4] > 0
    assert arms[1] > 0
    assert arms[2] == 0 and len(arms) == 5


def test_roads_lie_in_town_and_end_at_their_junctions(networks: list[Network]) -> None:
    for network in networks:
        for road in network.roads:
            assert np.all((road.line > BORDER_M - 1e-9) & (road.line < SIZE[0] - BORDER_M + 1e-9))
            assert LineString(road.line).is_simple
            for node, end in ((road.start, road.line[0]), (road.end, road.line[-1])):
                np.testing.assert_allclose(network.nodes[node], end, atol=1e-6)


def test_junctions_keep_apart_and_meet_at_wide_angles(networks: list[Network]) -> None:
    for network in networks:
        for road in network.roads:
            if not road.is_stub:
                assert total_length(road.line) > LEAST_STREET_M - 4
        for arms in network.arms:
            for i, arm in enumerate(arms):
                gap = (arms[(i + 1) % len(arms)].heading - arm.heading) % (2 * np.pi)
                assert len(arms) == 1 or gap > np.deg2rad(48)


def test_streets_bend_and_change_their_width(networks: list[Network]) -> None:
    straight = [
        np.hypot(*(road.line[-1] - road.line[0])) / total_length(road.line)
        for network in networks
        for road in network.roads
    ]
    assert 0.05 < np.mean(np.array(straight) < 0.98) < 0.6
    lanes = {(road.profile.forward, road.profile.backward) for network in networks for road in network.roads}
    assert len(lanes) > 6
    assert any(road.profile.median_kind == "island" for network in networks for road in network.roads)

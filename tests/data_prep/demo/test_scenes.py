"""The example scenes obey their equations of motion."""

import itertools
import math

import numpy as np
import pytest

from data_prep.demo.scenes import FLOOR, GRAVITY, SCENES, WORLD_WIDTH


def simulate(kind, seed=0, num_frames=25, fps=12.0):
    return SCENES[kind](np.random.default_rng(seed), num_frames, fps)


def path_of(scene, index=-1):
    return np.array([shapes[index].points[0] for shapes in scene.frames])


@pytest.mark.parametrize("kind", list(SCENES))
def test_equal_seeds_give_equal_scenes_and_others_differ(kind):
    assert simulate(kind) == simulate(kind)
    assert simulate(kind).frames != simulate(kind, seed=1).frames


@pytest.mark.parametrize("kind", list(SCENES))
@pytest.mark.parametrize("seed", range(5))
def test_the_caption_is_a_sentence_and_something_moves(kind, seed):
    scene = simulate(kind, seed)
    assert scene.caption[0].isupper()
    assert scene.caption.endswith(".")
    assert np.ptp(path_of(scene), axis=0).max() > 0.2


@pytest.mark.parametrize("kind", ["bouncing_ball", "projectile"])
def test_a_ball_in_flight_falls_with_gravity(kind):
    fps = 240.0
    height = path_of(simulate(kind, num_frames=20, fps=fps))[:, 1]
    acceleration = np.diff(height, 2) * fps**2
    assert np.allclose(acceleration, -GRAVITY, rtol=1e-3)


def test_bounces_lose_energy_and_never_sink_into_the_floor():
    scene = simulate("bouncing_ball", num_frames=600, fps=120.0)
    height = path_of(scene)[:, 1] - scene.frames[0][0].radius - FLOOR
    assert height.min() > -1e-3
    peaks = [height[i] for i in range(1, 599) if height[i - 1] < height[i] >= height[i + 1]]
    assert len(peaks) >= 3
    assert all(later < earlier for earlier, later in itertools.pairwise(peaks))


@pytest.mark.parametrize("seed", range(4))
def test_a_collision_keeps_momentum_and_energy(seed):
    fps = 240.0
    scene = simulate("collision", seed, num_frames=240, fps=fps)
    positions = np.stack([path_of(scene, 0), path_of(scene, 1)])
    mass = np.array([scene.frames[0][i].radius ** 2 for i in (0, 1)])
    velocity = np.diff(positions, axis=1) * fps
    energy = (mass[:, None] * (velocity**2).sum(axis=2)).sum(axis=0)
    settled = np.abs(np.diff(velocity, axis=1)).sum(axis=(0, 2)) < 1e-6  # frames without a hit
    assert np.allclose(energy[1:][settled], energy[0], rtol=1e-4)
    hits = np.flatnonzero(~settled)
    assert len(hits) >= 1
    momentum = (mass[:, None, None] * velocity).sum(axis=0)
    before, after = momentum[hits[0] - 1], momentum[hits[0] + 3]
    assert np.allclose(before, after, atol=1e-3)  # the discs hit each other before any hits the rim


def test_the_pendulum_keeps_its_length_and_slowly_loses_energy():
    scene = simulate("pendulum", num_frames=500, fps=60.0)
    bar, bob = scene.frames[0]
    pivot = (np.array(bar.points[0]) + np.array(bar.points[3])) / 2
    offset = path_of(scene) - pivot
    length = np.linalg.norm(offset, axis=1)
    assert np.allclose(length, length[0], rtol=1e-6)
    angle = np.arctan2(offset[:, 0], -offset[:, 1])
    peaks = [abs(angle[i]) for i in range(1, 499) if abs(angle[i - 1]) < abs(angle[i]) >= abs(angle[i + 1])]
    assert 0.3 < peaks[-1] < peaks[0] <= abs(angle[0]) + 1e-6
    assert bob.kind == "disc"


def test_a_block_on_a_ramp_has_the_acceleration_of_friction():
    fps = 240.0
    scene = simulate("incline", num_frames=40, fps=fps)
    ramp, block = scene.frames[0]
    (x0, _), (x1, _), (_, top) = ramp.points
    slope = math.atan2(top - FLOOR, abs(x1 - x0))
    centre = np.array([np.mean(shapes[1].points, axis=0) for shapes in scene.frames])
    acceleration = np.linalg.norm(np.diff(centre, 2, axis=0), axis=1) * fps**2
    friction = (math.sin(slope) - acceleration[0] / GRAVITY) / math.cos(slope)
    assert np.allclose(acceleration, acceleration[0], rtol=1e-2)
    assert 0.3 <= friction <= 0.4
    assert block.kind == "polygon"


def test_scenes_stay_in_view():
    for kind in ("bouncing_ball", "pendulum", "collision", "projectile"):
        for seed in range(4):
            path = path_of(simulate(kind, seed))
            assert path[:, 0].min() > -0.05
            assert path[:, 0].max() < WORLD_WIDTH + 0.05

"""Scenes of one textured object in front of a textured background, whose twelve actions only time tells apart.

Lengths are in pixels of a 224 x 224 picture, times in frames of a video of 32. A frame taken out of its scene looks
alike whatever the action is: where an action moves, grows or turns the object, it does so about the middle of its
time, evenly to both sides, and places, sizes and angles are drawn from the same distributions for all actions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

ACTIONS = (
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "approaching",
    "receding",
    "turning clockwise",
    "turning counter-clockwise",
    "shaking",
    "blinking",
    "background drifting",
    "standing still",
)
SCENE_FRAMES = 32
SCENE_SIZE = 224  # pixels, height and width
CANVAS_SIZE = 2 * SCENE_SIZE  # of the background, so that it can drift
SPRITE_SIZE = 96
SPRITE_CHANNELS = 4  # red, green, blue, opacity
NOISE_SIZE = 512
CONTRAST = 80  # least difference between the colours of object and background, in one channel of 0..255
DIRECTIONS = {"moving left": (-1, 0), "moving right": (1, 0), "moving up": (0, -1), "moving down": (0, 1)}
PARTIAL_SHARE = 0.4  # of the clips whose action takes only a part of the time


@dataclass(frozen=True, slots=True)
class Pose:
    """Place of an object: centre relative to the picture's, radius, angle in radians; x right, y down."""

    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True, slots=True)
class Motion:
    """Course of an action: its first and last frame, and its change per frame (or altogether)."""

    action: str
    start: float
    end: float
    direction: tuple[float, float]
    speed: float  # pixels a frame
    growth: float  # radius at the end by radius at the start
    turn: float  # radians a frame
    period: float  # frames, of shaking and blinking
    swing: float  # pixels, of shaking

    def progress(self, frame: float) -> float:
        """Frames of action since the middle of it: negative before, constant while the action does not happen."""
        return min(max(frame, self.start), self.end) - (self.start + self.end) / 2

    def is_active(self, frame: float) -> bool:
        return self.start <= frame < self.end


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that is drawn once for a clip."""

    motion: Motion
    pose: Pose
    sprites: tuple[Pixels, Pixels]  # the object; the second is its other look when it blinks
    background: Pixels  # (CANVAS_SIZE, CANVAS_SIZE, 3)
    shift: tuple[float, float]  # of the background
    distractors: tuple[tuple[Pixels, Pose], ...]
    noise: float
    flicker: tuple[float, float, float]  # amplitude, frequency in radians a frame, phase
    noise_seed: tuple[int, int]

    @property
    def action(self) -> str:
        """The clip's label, one of ACTIONS."""
        return self.motion.action


def make_scene(seed: int, index: int) -> Scene:
    """Scene `index` of data set `seed`; its action is the index's, so that any twelve in a row have one of each."""
    random = np.random.default_rng((seed, index))
    motion = _draw_motion(random, ACTIONS[index % len(ACTIONS)])
    mean = random.uniform(60, 195, 3)
    outline = _draw_outline(random)
    sprites = (_fill_outline(random, outline, mean), _fill_outline(random, outline, mean))
    return Scene(
        motion=motion,
        pose=_draw_pose(random, 45, (34, 56)),
        sprites=sprites,
        background=_draw_background(random, mean),
        shift=(random.uniform(-8, 8), random.uniform(-8, 8)),
        distractors=tuple(
            (
                _fill_outline(random, _draw_outline(random), mean),
                _draw_pose(random, 100, (12, 26)),
            )
            for _ in range(random.integers(0, 3))
        ),
        noise=random.uniform(0.05, 0.4),
        flicker=(random.uniform(0, 0.06), random.uniform(0.05, 0.3), random.uniform(0, math.tau)),
        noise_seed=(seed, index),
    )


def render_scene(
    scene: Scene, frames: Iterable[int] = range(SCENE_FRAMES), size: int = SCENE_SIZE, zoom: float = 1.0
) -> Pixels:
    """The scene's frames: uint8 RGB (frames, size, size, 3); `zoom` is pixels of the picture per pixel of the scene."""
    return np.stack([_render_frame(scene, frame, size, zoom) for frame in frames])


def _render_frame(scene: Scene, frame: int, size: int, zoom: float) -> Pixels:
    motion, still = scene.motion, scene.pose
    progress = motion.progress(frame)
    x, y, shift = still.x, still.y, scene.shift
    if motion.action in DIRECTIONS:
        x, y = x + progress * motion.speed * motion.direction[0], y + progress * motion.speed * motion.direction[1]
    elif motion.action == "shaking" and motion.is_active(frame):
        swing = motion.swing * math.sin(math.tau * (frame - motion.start) / motion.period)
        x, y = x + swing * motion.direction[0], y + swing * motion.direction[1]
    elif motion.action == "background drifting":
        shift = (
            shift[0] + progress * motion.speed * motion.direction[0],
            shift[1] + progress * motion.speed * motion.direction[1],
        )
    growth = motion.growth ** (progress / (motion.end - motion.start))
    pose = Pose(x, y, still.radius * growth, still.angle + progress * motion.turn)
    other = (
        motion.action == "blinking"
        and motion.is_active(frame)
        and (frame - motion.start) % motion.period * 2 >= (motion.period)
    )
    picture = _render_background(scene.background, shift, size, zoom)
    for sprite, place in (*scene.distractors, (scene.sprites[int(other)], pose)):
        _paste(picture, sprite, place, zoom)
    return _degrade(picture, scene, frame)


def _draw_motion(random: Generator, action: str) -> Motion:
    """All values are drawn whatever the action is, so that scenes differ in nothing else."""
    length = SCENE_FRAMES - 1.0
    if random.random() < PARTIAL_SHARE:
        length = random.uniform(14, 24)
    start = random.uniform(0, SCENE_FRAMES - 1 - length)
    heading = random.uniform(0, math.tau)
    direction = DIRECTIONS.get(action, (math.cos(heading), math.sin(heading)))
    ratio, turn = random.uniform(2.0, 2.8), random.uniform(0.05, 0.1)
    return Motion(
        action=action,
        start=start,
        end=start + length,
        direction=direction,
        speed=random.uniform(1.0, 2.0),
        growth={"approaching": ratio, "receding": 1 / ratio}.get(action, 1.0),
        turn={"turning clockwise": turn, "turning counter-clockwise": -turn}.get(action, 0.0),
        period=random.uniform(6, 10),
        swing=random.uniform(7, 13),
    )


def _draw_pose(random: Generator, reach: float, radii: tuple[float, float]) -> Pose:
    x, y = random.uniform(-reach, reach, 2)
    return Pose(x, y, random.uniform(*radii), random.uniform(0, math.tau))


def _draw_outline(random: Generator) -> Pixels:
    """Opacity of an uneven octagon: (SPRITE_SIZE, SPRITE_SIZE)."""
    angles = random.uniform(0, math.tau / 8, 8) + np.arange(8) * math.tau / 8
    reach = random.uniform(0.5, 0.98, 8) * SPRITE_SIZE / 2
    corners = SPRITE_SIZE / 2 + np.stack((np.cos(angles), np.sin(angles)), axis=1) * reach[:, None]
    outline = np.zeros((SPRITE_SIZE, SPRITE_SIZE), np.uint8)
    cv2.fillPoly(outline, [corners.astype(np.int32)], 255, cv2.LINE_AA)
    return outline


def _fill_outline(random: Generator, outline: Pixels, background_mean: NDArray[np.float64]) -> Pixels:
    """A patterned object unlike the background in colour: (SPRITE_SIZE, SPRITE_SIZE, 4), colours times opacity."""
    colour = random.uniform(40, 215, 3)
    while np.abs(colour - background_mean).max() < CONTRAST:
        colour = random.uniform(40, 215, 3)
    pattern = random.uniform(-100, 100, (5, 5, 1)) + random.uniform(-50, 50, (5, 5, 3)) + colour
    filled = cv2.resize(np.clip(pattern, 0, 255).astype(np.float32), (SPRITE_SIZE, SPRITE_SIZE))
    colours = filled * (outline[..., None] / 255)
    return np.dstack((colours.astype(np.uint8), outline))


def _draw_background(random: Generator, mean: NDArray[np.float64]) -> Pixels:
    canvas = np.broadcast_to(mean.astype(np.float32), (CANVAS_SIZE, CANVAS_SIZE, 3)).copy()
    for cells, amplitude in ((8, 45), (40, 40)):
        grey = random.uniform(-amplitude, amplitude, (cells, cells, 1))
        grid = (grey + random.uniform(-amplitude / 3, amplitude / 3, (cells, cells, 3))).astype(np.float32)
        canvas += cv2.resize(grid, (CANVAS_SIZE, CANVAS_SIZE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(canvas, 0, 255), np.uint8)


def _render_background(canvas: Pixels, shift: tuple[float, float], size: int, zoom: float) -> Pixels:
    offset = [size / 2 + zoom * (moved - CANVAS_SIZE / 2) for moved in shift]
    matrix = np.array([[zoom, 0, offset[0]], [0, zoom, offset[1]]])
    return np.asarray(cv2.warpAffine(canvas, matrix, (size, size), borderMode=cv2.BORDER_REFLECT), np.uint8)


def _paste(picture: Pixels, sprite: Pixels, pose: Pose, zoom: float) -> None:
    """Draw a sprite over the picture, touching only the square that it covers."""
    size, radius = len(picture), pose.radius * zoom
    x, y = size / 2 + pose.x * zoom, size / 2 + pose.y * zoom
    left, top = max(math.floor(x - radius), 0), max(math.floor(y - radius), 0)
    right, bottom = min(math.ceil(x + radius), size), min(math.ceil(y + radius), size)
    if right <= left or bottom <= top:
        return
    scale = 2 * radius / SPRITE_SIZE
    cosine, sine = scale * math.cos(pose.angle), scale * math.sin(pose.angle)
    middle = SPRITE_SIZE / 2
    matrix = np.array(
        [
            [cosine, -sine, x - left - middle * (cosine - sine)],
            [sine, cosine, y - top - middle * (sine + cosine)],
        ]
    )
    drawn = cv2.warpAffine(sprite, matrix, (right - left, bottom - top))
    area = picture[top:bottom, left:right]
    opacity = cv2.cvtColor(np.ascontiguousarray(255 - drawn[..., 3]), cv2.COLOR_GRAY2RGB)
    area[:] = cv2.add(cv2.multiply(area, opacity, scale=1 / 255), np.ascontiguousarray(drawn[..., :3]))


def _degrade(picture: Pixels, scene: Scene, frame: int) -> Pixels:
    """Brightness that changes slowly, and noise that is new in every frame."""
    amplitude, frequency, phase = scene.flicker
    gain = 1 + amplitude * math.sin(frequency * frame + phase)
    size = len(picture)
    top, left = np.random.default_rng((*scene.noise_seed, frame)).integers(0, NOISE_SIZE - size, 2)
    noise = _noise()[top : top + size, left : left + size]
    return np.asarray(cv2.addWeighted(picture, gain, noise, scene.noise, -128 * scene.noise), np.uint8)


@lru_cache(maxsize=1)
def _noise() -> Pixels:
    """Grey noise about 128 with a little colour, one picture for all scenes: frames take parts of it."""
    random = np.random.default_rng(0)
    grey = random.normal(128, 6, (NOISE_SIZE, NOISE_SIZE, 1))
    return np.clip(grey + random.normal(0, 3, (NOISE_SIZE, NOISE_SIZE, 3)), 0, 255).astype(np.uint8)

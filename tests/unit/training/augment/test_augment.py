"""Augmentation: what it does to pixels and labels, how often, and that it depends on seed, step and position alone."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import ndimage, stats

from cnnlib.config import AugmentConfig
from cnnlib.training.augment import colour, geometry, mix
from cnnlib.training.augment.augment import build_augment
from cnnlib.training.augment.draws import Draws
from cnnlib.training.augment.rand_augment import OPERATIONS, RandAugment

pytestmark = pytest.mark.usefixtures("strategy")

BATCH, SIDE = 16, 12
EVERYTHING = AugmentConfig(
    flip="both",
    shift=3,
    rotate=20,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    rand_operations=2,
    erase=0.5,
    mixup=0.4,
    cutmix=1.0,
)


def make_rows(rows: int = BATCH, channels: int = 3) -> tuple[tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (rows, SIDE, SIDE, channels), np.uint8)
    return tf.constant(images), tf.constant(rng.integers(0, 5, rows), tf.int32)


def augment(config: AugmentConfig, *, step: int = 0, first: int = 0, rows: int = BATCH, seed: int = 0) -> Any:
    """Augments rows of the batch as the worker does that has them; returns images and labels as arrays."""
    images, labels = make_rows()
    part = slice(first, first + rows)
    changed = compile_augment(config, seed)(
        images[part], labels[part], tf.constant(step, tf.int64), tf.constant(first)
    )
    return [each.numpy() for each in changed]


@functools.cache
def compile_augment(config: AugmentConfig, seed: int) -> Any:
    return tf.function(build_augment(config, batch_size=BATCH, seed=seed), autograph=False)


def draws(step: int = 0, rows: int = BATCH) -> Draws:
    return Draws(0, tf.constant(step, tf.int64), tf.constant(0), rows, rows)


def test_nothing_is_asked_for_by_default() -> None:
    assert build_augment(AugmentConfig(), batch_size=BATCH, seed=0) is None


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_a_row_is_changed_in_the_same_way_for_any_number_of_workers(workers: int) -> None:
    whole, size = augment(EVERYTHING, step=7), BATCH // workers
    parts = [augment(EVERYTHING, step=7, first=rank * size, rows=size) for rank in range(workers)]
    for at_once, of_workers in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(at_once, np.concatenate(of_workers))


def test_seed_and_step_decide_and_nothing_else_does() -> None:
    first = augment(EVERYTHING, step=3)
    np.testing.assert_array_equal(first[0], augment(EVERYTHING, step=3)[0])
    others = [augment(EVERYTHING, step=4), augment(EVERYTHING, step=3, seed=1)]
    for a, b in itertools.combinations([first, *others], 2):
        assert np.mean(a[0] != b[0]) > 0.5


def test_huge_seeds_and_steps_are_taken() -> None:
    augment(AugmentConfig(flip="horizontal"), step=2**40, seed=2**40)


def test_images_keep_shape_and_range() -> None:
    for step in range(5):
        images, labels = augment(EVERYTHING, step=step)
        assert images.shape == (BATCH, SIDE, SIDE, 3)
        assert images.min() >= 0
        assert images.max() <= 256
        assert labels.shape == (BATCH, 3)


def test_each_flag_changes_images_and_moves_alone_keep_bytes() -> None:
    before, labels = (each.numpy() for each in make_rows())
    for field in dataclasses.fields(AugmentConfig):
        value = getattr(EVERYTHING, field.name)
        if field.name == "rand_magnitude":
            continue
        images, new_labels = augment(AugmentConfig(**{field.name: value}))
        assert (images != before).any(), field.name
        assert (images.dtype == np.uint8) == (field.name in ("flip", "shift"))
        if field.name not in ("mixup", "cutmix"):
            np.testing.assert_array_equal(new_labels, labels)


@pytest.mark.parametrize(("flip", "axes"), [("horizontal", [2]), ("vertical", [1]), ("both", [1, 2])])
def test_half_of_the_rows_are_mirrored(flip: Any, axes: list[int]) -> None:
    before, counts = make_rows()[0].numpy(), np.zeros(4)
    for step in range(50):
        images, _ = augment(AugmentConfig(flip=flip), step=step)
        for old, new in zip(before, images, strict=True):
            options = [old, old[:, ::-1], old[::-1], old[::-1, ::-1]]
            counts[[np.array_equal(new, option) for option in options].index(True)] += 1
    expected = {"horizontal": [0.5, 0.5, 0, 0], "vertical": [0.5, 0, 0.5, 0], "both": [0.25] * 4}[flip]
    assert axes
    # 800 rows: the standard deviation of a share is 0.018.
    np.testing.assert_allclose(counts / counts.sum(), expected, atol=0.08)


def test_shifts_are_crops_of_the_bordered_image_and_all_are_equally_likely() -> None:
    before, most, seen = make_rows()[0].numpy(), 2, []
    bordered = np.pad(before, [(0, 0), (most, most), (most, most), (0, 0)])
    crops = {
        (y, x): bordered[:, y : y + SIDE, x : x + SIDE]
        for y, x in itertools.product(range(2 * most + 1), repeat=2)
    }
    for step in range(60):
        images, _ = augment(AugmentConfig(shift=most), step=step)
        for row in range(BATCH):
            seen.append(next(at for at, crop in crops.items() if np.array_equal(crop[row], images[row])))
    counts = [seen.count(at) for at in crops]
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("degrees", [0.0, 90.0, -90.0, 30.0])
def test_rotation_is_counterclockwise_as_in_pillow(degrees: float) -> None:
    image = ndimage.gaussian_filter(np.random.default_rng(1).uniform(0, 255, (SIDE, SIDE)), 1.5).astype(
        np.float32
    )
    turned = geometry.warp_rows(
        tf.constant(image[None, ..., None]),
        geometry.affine(*(tf.constant([value], tf.float32) for value in (degrees, 0, 0, 0, 0))),
    )
    expected = np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR))
    inner = slice(4, -4) if degrees % 90 else slice(1, -1)  # where both have pixels
    np.testing.assert_allclose(turned.numpy()[0, inner, inner, 0], expected[inner, inner], atol=1.0)


def test_translation_moves_right_and_down() -> None:
    image = np.zeros((1, SIDE, SIDE, 1), np.float32)
    image[0, 2, 3] = 9
    moved = geometry.warp_rows(
        tf.constant(image), geometry.affine(*(tf.constant([float(v)]) for v in (0, 0, 0, 4, 1)))
    )
    assert np.argwhere(moved.numpy()[0, ..., 0] == 9).tolist() == [[3, 7]]


def test_colours_are_blends() -> None:
    images = tf.cast(make_rows()[0], tf.float32)
    halves = tf.fill([BATCH], 0.5)
    np.testing.assert_allclose(colour.scale_brightness(images, halves), images / 2)
    grey = np.asarray([np.asarray(Image.fromarray(each).convert("L")) for each in make_rows()[0].numpy()])
    np.testing.assert_allclose(colour.to_grey(images)[..., 0], grey, atol=1)
    expected = (images + grey[..., None]) / 2
    np.testing.assert_allclose(colour.scale_saturation(images, halves), expected, atol=1)
    expected = (images + grey.mean(axis=(1, 2))[:, None, None, None]) / 2
    np.testing.assert_allclose(colour.scale_contrast(images, halves), expected, atol=1)
    bright = colour.scale_brightness(images, tf.fill([BATCH], 9.0))
    assert float(tf.reduce_max(bright)) == 255


def test_operations_of_a_row_are_those_that_it_drew() -> None:
    chosen = np.concatenate([RandAugment.draw(3, 5, draws(step), 1).chosen.numpy() for step in range(100)])
    assert (chosen.sum(axis=1) == 3).all()
    shares = chosen.mean(axis=0) / 3  # of 1,600 rows: the standard deviation is 0.004
    np.testing.assert_allclose(shares, 1 / len(OPERATIONS), atol=0.02)


def test_rows_that_drew_only_the_identity_stay_as_they_are() -> None:
    images = tf.cast(make_rows()[0], tf.float32)
    none = tf.zeros([BATCH, len(OPERATIONS)])
    rand = RandAugment(none, none, 1.0)
    np.testing.assert_allclose(geometry.warp_rows(images, rand.matrices(SIDE, SIDE)), images, atol=1e-3)
    np.testing.assert_allclose(rand.recolour(images), images, atol=1e-3)


@pytest.mark.parametrize("name", OPERATIONS[5:-1])
def test_every_colour_operation_changes_the_rows_that_drew_it_alone(name: str) -> None:
    images = tf.cast(make_rows()[0], tf.float32)
    chosen = np.zeros((BATCH, len(OPERATIONS)), np.float32)
    chosen[3, OPERATIONS.index(name)] = 1
    images = tf.concat([images[:3], images[3:4] * 0.5 + 20, images[4:]], axis=0)  # room for autocontrast
    changed = RandAugment(tf.constant(chosen), tf.constant(-chosen), 0.5).recolour(images).numpy()
    differs = np.abs(changed - images.numpy()).max(axis=(1, 2, 3)) > 1e-3
    assert np.flatnonzero(differs).tolist() == [3]


def test_erasing_hides_a_rectangle_of_a_fraction_of_the_rows() -> None:
    before, erased, areas = make_rows()[0].numpy(), 0, []
    for step in range(60):
        images, _ = augment(AugmentConfig(erase=0.3), step=step)
        for old, new in zip(before, images, strict=True):
            hidden = (old != new).any(axis=-1)
            if hidden.any():
                erased += 1
                rows, columns = np.flatnonzero(hidden.any(axis=1)), np.flatnonzero(hidden.any(axis=0))
                box = hidden[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                assert box.mean() > 0.95, "a rectangle, but for noise that is the pixel by chance"
                areas.append(box.size / SIDE**2)
    assert erased / (60 * BATCH) == pytest.approx(0.3, abs=0.06)  # the standard deviation is 0.015
    assert 0.1 < np.mean(areas) < 0.25
    assert max(areas) < 0.45


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_have_the_beta_distribution(alpha: float) -> None:
    drawn = tf.concat([draws(step, 500).uniform(1, 1)[:, 0] for step in range(4)], axis=0)
    shares = mix.beta(drawn, alpha).numpy()
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_mixup_blends_images_and_labels_by_the_same_share() -> None:
    before, labels = (each.numpy() for each in make_rows())
    images, mixed = augment(AugmentConfig(mixup=1.0))
    for row in range(BATCH):
        partner, (own, other, share) = row ^ 1, mixed[row]
        assert (own, other) == (labels[row], labels[partner])
        expected = before[row] * share + before[partner] * (1 - share)
        np.testing.assert_allclose(images[row], expected, atol=1e-3)
    assert len(set(mixed[::2, 2])) > BATCH // 4, "each pair has a share of its own"


def test_cutmix_pastes_a_rectangle_and_counts_its_pixels() -> None:
    before, _ = make_rows()
    for step in range(10):
        images, mixed = augment(AugmentConfig(cutmix=1.0), step=step)
        for row in range(BATCH):
            own, partner = before.numpy()[row], before.numpy()[row ^ 1]
            stays = (images[row] == own).all(axis=-1)
            pasted = (images[row] == partner).all(axis=-1)
            assert (stays | pasted).all()
            assert mixed[row, 2] == pytest.approx(stays.mean(), abs=0.02)


def test_with_both_a_pair_gets_one() -> None:
    before, blends = make_rows()[0].numpy(), 0
    for step in range(30):
        images, _ = augment(AugmentConfig(mixup=1.0, cutmix=1.0), step=step)
        for row in range(0, BATCH, 2):
            cut = ((images[row] == before[row]) | (images[row] == before[row + 1])).all()
            blends += not cut
    assert blends / (30 * BATCH / 2) == pytest.approx(0.5, abs=0.13)  # the standard deviation is 0.032

"""The loss and the right predictions of mixed labels, against soft labels of plain Keras, through a training step."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnnlib.training.step import build_train_call, count_correct

BATCH, CLASSES, SHAPE = 8, 3, (4, 4, 1)
MIXED = np.array(
    [
        [0, 1, 0.25],
        [1, 0, 0.25],
        [2, 2, 0.5],
        [2, 2, 0.5],
        [0, 2, 1.0],
        [2, 0, 1.0],
        [1, 2, 0.7],
        [2, 1, 0.7],
    ],
    np.float32,
)


def soft_targets() -> np.ndarray:
    one_hot = np.eye(CLASSES, dtype=np.float32)
    own, other, share = MIXED[:, 0].astype(int), MIXED[:, 1].astype(int), MIXED[:, 2:]
    return share * one_hot[own] + (1 - share) * one_hot[other]


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("micro_batches", "chunks"), [(1, 1), (2, 1), (1, 2)])
def test_a_step_on_mixed_rows_is_one_of_plain_keras_on_soft_labels(
    strategy: Any, logits: bool, smoothing: float, micro_batches: int, chunks: int
) -> None:
    keras.utils.set_random_seed(0)
    with strategy.scope():
        activation = None if logits else "softmax"
        model = keras.Sequential(
            [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(CLASSES, activation)]
        )
        optimizer = keras.optimizers.SGD(1e-3)
        optimizer.build(model.trainable_variables)
    plain = keras.models.clone_model(model)
    plain.set_weights(model.get_weights())
    images = np.random.default_rng(0).integers(0, 9, (1, BATCH, *SHAPE), np.uint8)

    def mix(own: tf.Tensor, labels: tf.Tensor, step: tf.Tensor, first: tf.Tensor) -> Any:
        del labels, step, first
        return own, tf.constant(MIXED)

    call = build_train_call(
        model=model, optimizer=optimizer, strategy=strategy, batch_size=BATCH, image_shape=SHAPE, seed=0,
        from_logits=logits, jit_compile=False, label_smoothing=smoothing, micro_batches=micro_batches,
        chunks=chunks, augment=mix,
    )  # fmt: skip
    loss_sum, correct, _ = call(images, np.zeros((1, BATCH), np.int32)).numpy()

    loss_of = keras.losses.CategoricalCrossentropy(from_logits=logits, label_smoothing=smoothing)
    with tf.GradientTape() as tape:
        outputs = plain(images[0].astype(np.float32))
        loss = loss_of(soft_targets(), outputs)
    plain_optimizer = keras.optimizers.SGD(1e-3)
    plain_optimizer.apply_gradients(
        zip(tape.gradient(loss, plain.trainable_variables), plain.trainable_variables, strict=True)
    )
    assert loss_sum / BATCH == pytest.approx(float(loss), rel=1e-5)
    expected = soft_targets()[np.arange(BATCH), np.argmax(outputs, axis=1)].sum()
    assert correct == pytest.approx(expected, rel=1e-6)
    for have, want in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(have, want, atol=1e-6)


def test_a_mixed_label_of_one_class_counts_as_that_label() -> None:
    outputs = tf.constant(np.random.default_rng(0).normal(size=(BATCH, CLASSES)).astype(np.float32))
    labels = np.arange(BATCH) % CLASSES
    mixed = np.stack([labels, labels, np.full(BATCH, 0.3)], axis=1).astype(np.float32)
    assert float(count_correct(tf.constant(mixed), outputs)) == pytest.approx(
        int(count_correct(tf.constant(labels, tf.int32), outputs))
    )


def test_class_weights_weigh_each_part_of_a_mixed_label(strategy: Any) -> None:
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input(SHAPE),
                keras.layers.Flatten(),
                keras.layers.Dense(CLASSES, kernel_initializer="zeros"),
            ]
        )
        optimizer = keras.optimizers.SGD(0.0)
        optimizer.build(model.trainable_variables)
    weights = (1.0, 3.0, 10.0)
    call = build_train_call(
        model=model, optimizer=optimizer, strategy=strategy, batch_size=BATCH, image_shape=SHAPE, seed=0,
        from_logits=True, jit_compile=False, class_weights=weights,
        augment=lambda images, labels, step, first: (images, tf.constant(MIXED)),
    )  # fmt: skip
    loss_sum = call(np.zeros((1, BATCH, *SHAPE), np.uint8), np.zeros((1, BATCH), np.int32)).numpy()[0]
    assert loss_sum == pytest.approx(
        float((soft_targets() @ np.array(weights)).sum()) * np.log(CLASSES), rel=1e-5
    )

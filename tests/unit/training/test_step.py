"""One step of this project is one step of plain Keras, under the strategy of a real run with one worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnnlib.training import strategy as strategies
from cnnlib.training.step import build_score_call, build_train_call, count_correct
from cnnlib.training.strategy import build_sum_call
from tests.unit.training.conftest import IMAGE_SHAPE, Batches

MakeModel = Callable[..., keras.Model]
MakeBatches = Callable[[int, int], Batches]

BATCH = 6


def build(
    strategy: Any, model: keras.Model, optimizer: str = "adam", *, from_logits: bool = False, **options: Any
) -> Any:
    """Builds the compiled call of a run, and its optimizer as a worker does. `still` changes no weight."""
    optimizers = {
        "adam": lambda: keras.optimizers.Adam(0.01),
        "sgd": lambda: keras.optimizers.SGD(1.0),
        "still": lambda: keras.optimizers.SGD(1e-30),
    }
    with strategy.scope():
        built = optimizers[optimizer]()
        built.build(model.trainable_variables)
    return build_train_call(
        model=model,
        optimizer=built,
        strategy=strategy,
        batch_size=BATCH,
        image_shape=IMAGE_SHAPE,
        from_logits=from_logits,
        jit_compile=False,
        seed=0,
        **options,
    )


def plain_copy(model: keras.Model) -> keras.Model:
    """Returns a copy of a model outside of any strategy."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def plain_step(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    images: np.ndarray,
    labels: np.ndarray,
    logits: bool,
) -> float:
    """Trains one step as a tutorial does: the mean loss of a batch, its gradient, one update. Returns the loss."""
    with tf.GradientTape() as tape:
        outputs = model(images.astype(np.float32), training=True)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)(labels, outputs)
        if model.losses:
            loss += sum(model.losses)
    optimizer.apply_gradients(
        zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
    )
    return float(loss)


def assert_same_weights(model: keras.Model, other: keras.Model, tolerance: float = 0.0) -> None:
    for have, want in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=tolerance)


def test_strategy_of_one_worker_has_one_replica(strategy: Any) -> None:
    assert strategy.num_replicas_in_sync == 1
    assert type(strategy).__name__ == "CollectiveAllReduceStrategy"
    assert "device:CPU:0" in strategies.replica_device(strategy)


@pytest.mark.parametrize("logits", [False, True])
def test_sums_of_a_call_are_those_of_plain_keras(
    strategy: Any, make_model: MakeModel, make_batches: MakeBatches, logits: bool
) -> None:
    model = make_model(logits=logits)
    images, labels = make_batches(4, BATCH)
    sums = build(strategy, model, "still", from_logits=logits)(images, labels).numpy()
    outputs = np.asarray(model(images.reshape(-1, *IMAGE_SHAPE).astype(np.float32)))
    losses = keras.losses.sparse_categorical_crossentropy(labels.ravel(), outputs, from_logits=logits)
    assert sums.dtype == np.float64
    assert sums[0] == pytest.approx(float(np.sum(losses)), rel=1e-5)
    assert sums[1] == (outputs.argmax(axis=1) == labels.ravel()).sum()


@pytest.mark.parametrize(("logits", "l2"), [(False, 0.0), (True, 0.1)])
def test_one_step_is_one_step_of_plain_keras(
    strategy: Any, make_model: MakeModel, make_batches: MakeBatches, logits: bool, l2: float
) -> None:
    model = make_model(logits=logits, l2=l2)
    plain, before = plain_copy(model), model.get_weights()
    images, labels = make_batches(1, BATCH)
    sums = build(strategy, model, from_logits=logits)(images, labels).numpy()
    loss = plain_step(plain, keras.optimizers.Adam(0.01), images[0], labels[0], logits)
    assert all((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))
    # Adam divides the gradient by its size: float32 noise of 1e-7 in one becomes some 1e-6 in the other.
    assert_same_weights(model, plain, 1e-5)
    regularisation = l2 * float((before[0] ** 2).sum())
    assert sums[0] / BATCH + regularisation == pytest.approx(loss, rel=1e-5)


def test_many_steps_in_one_call_are_as_many_calls_of_one_step(
    strategy: Any, make_model: MakeModel, make_batches: MakeBatches
) -> None:
    images, labels = make_batches(5, BATCH)
    at_once, one_by_one = make_model(), make_model()
    assert_same_weights(at_once, one_by_one)
    sums = build(strategy, at_once)(images, labels).numpy()
    call = build(strategy, one_by_one)
    parts = [call(images[step : step + 1], labels[step : step + 1]).numpy() for step in range(5)]
    np.testing.assert_array_equal(sums, sum(parts))
    assert_same_weights(at_once, one_by_one)
    assert any((a != b).any() for a, b in zip(at_once.get_weights(), make_model().get_weights(), strict=True))


def test_call_is_compiled_once_for_any_number_of_steps_and_none_changes_nothing(
    strategy: Any, make_model: MakeModel, make_batches: MakeBatches
) -> None:
    model = make_model()
    before, call = plain_copy(model), build(strategy, model)
    assert call(*make_batches(0, BATCH)).numpy().tolist() == [0.0, 0.0, 0.0]
    assert_same_weights(model, before)
    for steps in (1, 3, 2):
        assert call(*make_batches(steps, BATCH), request=float(steps)).numpy()[2] == steps
    assert call.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(("parts", "l2"), [(2, 0.0), (3, 0.1), (BATCH, 0.0)])
def test_batch_in_parts_is_the_whole_batch(
    strategy: Any, make_model: MakeModel, make_batches: MakeBatches, parts: int, l2: float
) -> None:
    whole, in_parts = make_model(l2=l2), make_model(l2=l2)
    images, labels = make_batches(2, BATCH)
    sums = build(strategy, whole)(images, labels).numpy()
    sums_of_parts = build(strategy, in_parts, micro_batches=parts)(images, labels).numpy()
    np.testing.assert_allclose(sums_of_parts, sums, rtol=1e-5)
    # The same sum in another order, then Adam: see test_one_step_is_one_step_of_plain_keras.
    assert_same_weights(in_parts, whole, 1e-5)
    assert any((a != b).any() for a, b in zip(whole.get_weights(), make_model().get_weights(), strict=True))


@pytest.mark.parametrize(("micro_batches", "chunks", "l2"), [(1, 2, 0.0), (1, 3, 0.1), (2, 3, 0.1)])
def test_batch_in_chunks_is_the_whole_batch(
    strategy: Any,
    make_model: MakeModel,
    make_batches: MakeBatches,
    micro_batches: int,
    chunks: int,
    l2: float,
) -> None:
    whole, in_parts = make_model(l2=l2), make_model(l2=l2)
    images, labels = make_batches(2, BATCH)
    sums = build(strategy, whole)(images, labels).numpy()
    call = build(strategy, in_parts, micro_batches=micro_batches, chunks=chunks)
    np.testing.assert_allclose(call(images, labels).numpy(), sums, rtol=1e-5)
    assert_same_weights(in_parts, whole, 1e-5)
    assert any((a != b).any() for a, b in zip(whole.get_weights(), make_model().get_weights(), strict=True))


def test_batch_in_parts_leaves_weights_without_a_gradient_alone(
    strategy: Any, make_batches: MakeBatches
) -> None:
    class WithIdleWeight(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.idle = self.add_weight(shape=(2,), initializer="ones")

        def call(self, inputs: Any) -> Any:
            return inputs

    with strategy.scope():
        model = keras.Sequential(
            [keras.Input(IMAGE_SHAPE), keras.layers.Flatten(), WithIdleWeight(), keras.layers.Dense(3)]
        )
    dense = model.layers[-1].kernel.numpy()
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        build(strategy, model, from_logits=True, micro_batches=2)(*make_batches(1, BATCH))
    np.testing.assert_array_equal(model.layers[1].idle, [1, 1])
    assert (model.layers[-1].kernel.numpy() != dense).any()


@pytest.mark.parametrize("micro_batches", [2, 3])
def test_moving_statistics_of_micro_batches_are_those_that_keras_has_for_one_batch(
    strategy: Any, make_batches: MakeBatches, micro_batches: int
) -> None:
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input(IMAGE_SHAPE),
                keras.layers.BatchNormalization(momentum=0.9),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )
    plain = plain_copy(model)
    images, labels = make_batches(3, BATCH)
    # The rows of each micro-batch are darker than those of the one before, so that their means differ.
    images = (images * np.linspace(1, 0.2, BATCH)[:, None, None, None]).astype(np.uint8)
    build(strategy, model, "still", from_logits=True, micro_batches=micro_batches)(images, labels)
    for batch in images:
        plain(batch.astype(np.float32), training=True)
    for name in ("moving_mean", "moving_variance"):
        have, want = (getattr(each.layers[0], name).numpy() for each in (model, plain))
        np.testing.assert_allclose(have, want, rtol=1e-5)


def test_batch_of_another_size_is_refused(
    strategy: Any, make_model: MakeModel, make_batches: MakeBatches
) -> None:
    call = build(strategy, make_model())
    with pytest.raises((TypeError, ValueError)):
        call(*make_batches(1, BATCH + 1))


@pytest.mark.parametrize("logits", [False, True])
def test_filled_rows_do_not_count_in_a_score(
    strategy: Any, make_model: MakeModel, make_batches: MakeBatches, logits: bool
) -> None:
    model = make_model(logits=logits)
    score_call = build_score_call(
        model=model, strategy=strategy, rows=8, image_shape=IMAGE_SHAPE, from_logits=logits
    )
    (images,), (labels,) = make_batches(1, 8)
    outputs = np.asarray(model(images.astype(np.float32)))
    losses = np.asarray(keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=logits))
    hits = outputs.argmax(axis=1) == labels
    for counted in (8, 5, 0):
        mask = (np.arange(8) < counted).astype(np.float32)
        loss_sum, correct = score_call(images, labels, mask).numpy()
        assert loss_sum == pytest.approx(float(losses[:counted].sum()), rel=1e-5)
        assert correct == hits[:counted].sum()
        # The rows that fill the batch up change nothing.
        other_images, other_labels = images.copy(), labels.copy()
        other_images[counted:] = 255 - other_images[counted:]
        other_labels[counted:] = (other_labels[counted:] + 1) % 3
        again = score_call(other_images, other_labels, mask).numpy()
        np.testing.assert_array_equal(again, [loss_sum, correct])


def numpy_losses(
    outputs: np.ndarray, labels: np.ndarray, smoothing: float, weights: tuple[float, ...], logits: bool
) -> np.ndarray:
    """Returns the loss of every row: -weight of the label * sum over classes of target * log(probability)."""
    if logits:
        outputs = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    targets = np.eye(3)[labels] * (1 - smoothing) + smoothing / 3
    return np.asarray(-np.array(weights)[labels] * (targets * np.log(outputs)).sum(axis=1))


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize(
    ("smoothing", "weights"), [(0.0, (0.5, 2.0, 1.0)), (0.25, None), (0.25, (0.5, 2.0, 0.0))]
)
def test_loss_follows_its_formula(
    strategy: Any,
    make_model: MakeModel,
    make_batches: MakeBatches,
    logits: bool,
    smoothing: float,
    weights: tuple[float, ...] | None,
) -> None:
    model = make_model(logits=logits)
    images, labels = make_batches(1, BATCH)
    outputs = np.asarray(model(images[0].astype(np.float32)), np.float64)
    expected = numpy_losses(outputs, labels[0], smoothing, weights or (1.0,) * 3, logits)
    options: dict[str, Any] = {"from_logits": logits, "label_smoothing": smoothing}
    sums = build(strategy, model, "still", **options, class_weights=weights)(images, labels).numpy()
    assert sums[0] == pytest.approx(expected.sum(), rel=1e-5)
    assert sums[1] == (outputs.argmax(axis=1) == labels[0]).sum()  # accuracy counts rows, whatever they weigh
    # The optimizer minimises the same loss divided by the rows, as the gradient of the last bias shows.
    row_weights = np.array(weights or (1.0,) * 3)
    probabilities = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True) if logits else outputs
    targets = np.eye(3)[labels[0]] * (1 - smoothing) + smoothing / 3
    gradient = (row_weights[labels[0]][:, None] * (probabilities - targets)).mean(axis=0)
    before = model.get_weights()[-1]
    build(strategy, model, "sgd", **options, class_weights=weights)(images, labels)
    np.testing.assert_allclose(before - model.get_weights()[-1], gradient, rtol=0, atol=1e-5)


def test_validation_loss_is_smoothed_as_keras_does(
    strategy: Any, make_model: MakeModel, make_batches: MakeBatches
) -> None:
    model = make_model()
    (images,), (labels,) = make_batches(1, 8)
    score_call = build_score_call(
        model=model,
        strategy=strategy,
        rows=8,
        image_shape=IMAGE_SHAPE,
        from_logits=False,
        label_smoothing=0.1,
    )
    loss_sum, _ = score_call(images, labels, np.ones(8, np.float32)).numpy()
    keras_loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    mean = float(keras_loss(np.eye(3)[labels], model(images.astype(np.float32))))
    assert loss_sum / 8 == pytest.approx(mean, rel=1e-5)


def test_scoring_trains_nothing(strategy: Any, make_model: MakeModel, make_batches: MakeBatches) -> None:
    model = make_model()
    before = plain_copy(model)
    score_call = build_score_call(
        model=model, strategy=strategy, rows=8, image_shape=IMAGE_SHAPE, from_logits=False
    )
    (images,), (labels,) = make_batches(1, 8)
    score_call(images, labels, np.ones(8, np.float32))
    assert_same_weights(model, before)


def test_sum_over_one_worker_is_what_it_gave(strategy: Any) -> None:
    values = np.array([1.5, 0.0, 2.0**40])
    np.testing.assert_array_equal(build_sum_call(strategy, size=3)(values).numpy(), values)


def test_correct_rows_are_those_whose_largest_output_is_their_label() -> None:
    outputs = tf.constant([[0.1, 0.9], [0.8, 0.2], [-3.0, -2.0]])
    assert int(count_correct(tf.constant([1, 1, 1]), outputs)) == 2


def test_moving_statistics_of_one_worker_stay_as_they_are(strategy: Any) -> None:
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
    model.layers[-1].moving_mean.assign([1.0, 2.0, 3.0, 4.0])
    strategies.average_moving_statistics(strategy, model)
    np.testing.assert_array_equal(model.layers[-1].moving_mean, [1.0, 2.0, 3.0, 4.0])

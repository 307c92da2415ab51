"""What one step computes: the gradient of the loss over the global batch, and one update of the weights.

The only place that knows the loss. It decides nothing about when: see loop.py. Nothing here needs AutoGraph, which
would rewrite each function while a run starts, and leave its text in the folder for temporary files.

What random layers draw is a function of (seed, step, replica, part of the batch) alone: the replicas drop different
units, and a run that was restarted draws what one that was not draws. See randomness.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from cnnlib.models.pixels import pixels_to_inputs
from cnnlib.shapes import ImageShape
from cnnlib.training.randomness import find_reseed

if TYPE_CHECKING:
    import keras

TrainCall = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def build_train_call(
    *,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    batch_size: int,
    image_shape: ImageShape,
    from_logits: bool,
    jit_compile: bool,
    seed: int,
    micro_batches: int = 1,
    side_by_side: int = 1,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
) -> TrainCall:
    """Builds the compiled function that runs many training steps in one call.

    It takes a macro-batch, images uint8 [steps, worker batch, height, width, channels] and labels int32
    [steps, worker batch], and returns float64 [2]: the loss summed over all rows of all replicas, and how many
    of them were predicted right, each with the weights its step began with.

    Every worker must call it with the same number of steps, or the last all-reduce waits for ever.

    Args:
        batch_size: the global batch: each replica's loss is summed, then divided by it, because the optimizer
            sums the gradients of the replicas.
        jit_compile: compile the gradient with XLA; the all-reduce and the update stay outside.
        seed: of what random layers draw.
        micro_batches: parts of a worker's batch, computed one after the other, their gradients summed: one
            all-reduce and one update per step however many. It must divide the worker's batch.
        side_by_side: parts of each of them that are computed at the same time, each on its share of the threads.
            Only for models whose rows do not meet (see `is_row_by_row`).
        label_smoothing: see `LossConfig`.
        class_weights: what a row's loss is multiplied by, for each class; None is 1. The sum is divided by the
            rows, not by their weights, as in Keras.
    """
    worker_batch = batch_size // strategy.num_replicas_in_sync
    row_losses = _row_losses(from_logits, label_smoothing, class_weights)
    reseed = find_reseed(model, seed)

    @tf.function(jit_compile=jit_compile, autograph=False)  # type: ignore[untyped-decorator]
    def compute_gradients(
        images: tf.Tensor, labels: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            outputs = model(pixels_to_inputs(images), training=True)
            losses = row_losses(labels, outputs)
            loss = tf.reduce_sum(losses) / batch_size
            if model.losses:  # regularisation: the same in every part, so each gives its share
                loss += tf.add_n(model.losses) / (
                    strategy.num_replicas_in_sync * micro_batches * side_by_side
                )
        gradients = tape.gradient(loss, model.trainable_variables)
        return gradients, tf.reduce_sum(losses), count_correct(labels, outputs)

    def compute_part(images: tf.Tensor, labels: tf.Tensor, part: tf.Tensor | int) -> Any:
        if reseed is not None:
            reseed(optimizer.iterations.value, part)
        if side_by_side == 1:
            return compute_gradients(images, labels)
        halves = zip(tf.split(images, side_by_side), tf.split(labels, side_by_side), strict=True)
        return _add_up([compute_gradients(*half) for half in halves])

    def replica_step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        if micro_batches == 1:
            gradients, loss_sum, correct = compute_part(images, labels, 0)
        else:
            gradients, loss_sum, correct = _sum_over_parts(compute_part, images, labels, micro_batches)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return tf.stack([tf.cast(loss_sum, tf.float64), tf.cast(correct, tf.float64)])

    images_spec = tf.TensorSpec([None, worker_batch, *image_shape], tf.uint8)
    labels_spec = tf.TensorSpec([None, worker_batch], tf.int32)

    @tf.function(input_signature=[images_spec, labels_spec], autograph=False)  # type: ignore[untyped-decorator]
    def train_call(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        def add_step(step: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return step + 1, sums + strategy.run(replica_step, args=(images[step], labels[step]))

        steps = tf.shape(labels)[0]
        _, sums = tf.while_loop(
            lambda step, _: step < steps, add_step, [tf.constant(0), tf.zeros([2], tf.float64)]
        )
        return _sum_over_replicas(strategy, sums)

    return train_call  # type: ignore[no-any-return]


def build_score_call(
    *,
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    rows: int,
    image_shape: ImageShape,
    from_logits: bool,
    label_smoothing: float = 0.0,
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """Builds the compiled function that scores one batch of a worker's held-out rows.

    It takes images uint8 [rows, height, width, channels], labels int32 [rows] and a mask float32 [rows], 1 for a
    row that counts, and returns float64 [2]: loss sum and correct rows, of this worker alone. As in Keras, the loss
    has the smoothing of the training, and no class weights.
    """
    row_losses = _row_losses(from_logits, label_smoothing)

    def score(images: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        outputs = model(pixels_to_inputs(images), training=False)
        loss_sum = tf.reduce_sum(row_losses(labels, outputs) * mask)
        hits = tf.cast(_is_correct(labels, outputs), tf.float32) * mask
        return tf.stack([tf.cast(loss_sum, tf.float64), tf.cast(tf.reduce_sum(hits), tf.float64)])

    specs = [
        tf.TensorSpec([rows, *image_shape], tf.uint8),
        tf.TensorSpec([rows], tf.int32),
        tf.TensorSpec([rows], tf.float32),
    ]

    @tf.function(input_signature=specs, autograph=False)  # type: ignore[untyped-decorator]
    def score_call(images: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        return strategy.run(score, args=(images, labels, mask))

    return score_call  # type: ignore[no-any-return]


def build_sum_call(strategy: tf.distribute.Strategy, size: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Builds the compiled function that adds up a float64 [size] of every worker; all must call it."""

    @tf.function(input_signature=[tf.TensorSpec([size], tf.float64)], autograph=False)  # type: ignore[untyped-decorator]
    def sum_call(values: tf.Tensor) -> tf.Tensor:
        return _sum_over_replicas(strategy, values)

    return sum_call  # type: ignore[no-any-return]


def count_correct(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Rows whose largest output is their label's, int32 []."""
    return tf.reduce_sum(tf.cast(_is_correct(labels, outputs), tf.int32))


def _is_correct(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    return tf.equal(tf.argmax(outputs, axis=-1, output_type=tf.int32), labels)


def _row_losses(
    from_logits: bool, label_smoothing: float, class_weights: Sequence[float] | None = None
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    import keras

    def row_losses(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(outputs, tf.float32)
        if label_smoothing:
            # y * (1 - s) + s / classes: Szegedy et al. 2016, section 7, with the uniform distribution.
            targets = tf.one_hot(labels, outputs.shape[-1])
            losses = keras.losses.categorical_crossentropy(
                targets, outputs, from_logits=from_logits, label_smoothing=label_smoothing
            )
        else:
            losses = keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=from_logits)
        if class_weights is not None:
            losses *= tf.gather(tf.constant(class_weights, tf.float32), labels)
        return losses

    return row_losses


def _add_up(results: list[tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]]) -> Any:
    gradients, *metrics = zip(*results, strict=True)
    totals = [None if each[0] is None else tf.add_n(each) for each in zip(*gradients, strict=True)]
    return totals, *(tf.add_n(each) for each in metrics)


def _sum_over_parts(
    compute_part: Callable[..., Any], images: tf.Tensor, labels: tf.Tensor, parts: int
) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
    """The sum of what `compute_part` gives for so many equal parts of a batch, one after the other."""
    rows = labels.shape[0] // parts
    images = tf.reshape(images, [parts, rows, *images.shape[1:]])
    labels = tf.reshape(labels, [parts, rows])

    def compute(part: tf.Tensor | int) -> Any:
        return compute_part(images[part], labels[part], part)

    # The first part outside of the loop: it shows which weights have no gradient.
    gradients, *metrics = compute(0)
    trained = [index for index, gradient in enumerate(gradients) if gradient is not None]

    def add_part(part: tf.Tensor, *sums: tf.Tensor) -> list[tf.Tensor]:
        new_gradients, *new_figures = compute(part)
        new = [*(new_gradients[index] for index in trained), *new_figures]
        return [part + 1, *(have + more for have, more in zip(sums, new, strict=True))]

    # One iteration at a time: two in flight would need the memory of two.
    start = [1, *(gradients[index] for index in trained), *metrics]
    _, *sums = tf.while_loop(lambda part, *_: part < parts, add_part, start, parallel_iterations=1)
    for index, total in zip(trained, sums, strict=False):
        gradients[index] = total
    loss_sum, correct = sums[len(trained) :]
    return gradients, loss_sum, correct


def _sum_over_replicas(strategy: tf.distribute.Strategy, values: tf.Tensor) -> Any:
    def all_reduce(local: tf.Tensor) -> tf.Tensor:
        # The identity gives the value the replica's device, which the all-reduce goes by.
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(local))

    return strategy.run(all_reduce, args=(values,))

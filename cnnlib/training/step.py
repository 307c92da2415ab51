"""Defines what one step computes: the gradient of the loss over the global batch, and one update of the weights.

This is the only file that knows the loss. It does not decide when anything happens: see loop.py.

`build_train_call` builds the step from four functions: `_build_gradients` computes some rows, `_in_chunks` computes
chunks of them in parallel, `_with_seeds` sets the seeds of random layers, and `_sum_over_micro_batches` repeats all of
this for every micro-batch. The calls nest as `train_call -> replica_step -> compute_gradients`.

AutoGraph is off because no function here needs it. It would rewrite each of them while a run starts, and leave their
text in the folder for temporary files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import keras
import tensorflow as tf

from cnnlib.models.pixels import pixels_to_inputs
from cnnlib.shapes import ImageShape
from cnnlib.training.augment.augment import Augment
from cnnlib.training.state.moving_statistics import MovingStatistics
from cnnlib.training.state.randomness import find_reseed
from cnnlib.training.strategy import sum_over_replicas

ScoreCall = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


class TrainCall(Protocol):
    """Runs many training steps: see `build_train_call`."""

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, request: float = 0.0) -> tf.Tensor:
        """Trains on a macro-batch, and tells all workers the sum of their requests."""


class StepResult(NamedTuple):
    """The result of the forward and backward pass over some rows of a replica. Results of disjoint rows add up.

    Attributes:
        gradients: one per trainable variable, of the summed loss divided by the global batch; None for a variable
            without a gradient.
        loss_sum: float [], the loss summed over the rows.
        correct: int32 [], the rows that were predicted right; float32 [] if labels are mixed.
    """

    gradients: list[tf.Tensor | None]
    loss_sum: tf.Tensor
    correct: tf.Tensor


_Compute = Callable[[tf.Tensor, tf.Tensor], StepResult]
_ComputeMicroBatch = Callable[[tf.Tensor, tf.Tensor, "tf.Tensor | int"], StepResult]
_RowLosses = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


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
    chunks: int = 1,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
    augment: Augment | None = None,
    synchronized: bool = False,
) -> TrainCall:
    """Builds the compiled function that runs many training steps in one call.

    The function takes a macro-batch, images uint8 [steps, worker batch, height, width, channels] and labels int32
    [steps, worker batch], and returns float64 [3]: the loss summed over all rows of all replicas, how many rows were
    predicted right, each with the weights before the row's step, and the sum of the workers' requests. By a request,
    one worker tells all the others something after the same call.

    Every worker must call it with the same number of steps, or the last all-reduce waits for ever.

    Args:
        batch_size: the global batch.
        jit_compile: compile the gradient with XLA; the all-reduce and the update stay outside.
        seed: seed of the random layers.
        micro_batches: equal parts of a worker's batch, computed one after the other, with one all-reduce and one
            update for all of them. It must divide the worker's batch.
        chunks: equal parts of each micro-batch, computed in parallel, each by an equal part of the threads. More than
            one is only for models whose rows do not influence one another (see `is_row_by_row`).
        label_smoothing: see `LossConfig`.
        class_weights: the factor of a row's loss for each class; None: every factor is 1. As in Keras, the sum is
            divided by the number of rows and not by the sum of their weights.
        augment: changes a worker's batch before everything else; None: it stays as it is. The loss and the right
            predictions that are returned are those of the changed rows, a mixed row's in the shares of its labels.
        synchronized: whether layers of the model all-reduce; then neither XLA nor micro-batches are possible.
    """
    replicas = strategy.num_replicas_in_sync
    compute_gradients = _build_gradients(
        model,
        _build_row_losses(from_logits, label_smoothing, class_weights),
        batch_size=batch_size,
        parts=replicas * micro_batches * chunks,
    )
    if not synchronized:
        # An all-reduce inside of it would be one inside of a function in a function, which TensorFlow refuses.
        compute_gradients = tf.function(compute_gradients, jit_compile=jit_compile, autograph=False)
    if chunks > 1:
        compute_gradients = _in_chunks(compute_gradients, chunks)
    compute_micro_batch = _with_seeds(compute_gradients, model, optimizer, seed)

    statistics = MovingStatistics(model)

    def replica_step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        if augment is not None:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            first_row = tf.cast(replica, tf.int32) * (batch_size // replicas)
            images, labels = augment(images, labels, optimizer.iterations.value, first_row)
        if micro_batches == 1:
            result = compute_micro_batch(images, labels, 0)
        else:
            result = _sum_over_micro_batches(compute_micro_batch, statistics, images, labels, micro_batches)
        optimizer.apply_gradients(zip(result.gradients, model.trainable_variables, strict=True))
        return tf.stack([tf.cast(result.loss_sum, tf.float64), tf.cast(result.correct, tf.float64)])

    images_spec = tf.TensorSpec([None, batch_size // replicas, *image_shape], tf.uint8)
    labels_spec = tf.TensorSpec([None, batch_size // replicas], tf.int32)
    specs = [images_spec, labels_spec, tf.TensorSpec([], tf.float64)]

    @tf.function(input_signature=specs, autograph=False)  # type: ignore[untyped-decorator]
    def train_call(images: tf.Tensor, labels: tf.Tensor, request: tf.Tensor | float = 0.0) -> tf.Tensor:
        def add_step(step: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return step + 1, sums + strategy.run(replica_step, args=(images[step], labels[step]))

        steps = tf.shape(labels)[0]
        _, sums = tf.while_loop(
            lambda step, _: step < steps, add_step, [tf.constant(0), tf.zeros([2], tf.float64)]
        )
        return sum_over_replicas(strategy, tf.concat([sums, tf.reshape(request, [1])], axis=0))

    return train_call  # type: ignore[no-any-return]


def build_score_call(
    *,
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    rows: int,
    image_shape: ImageShape,
    from_logits: bool,
    label_smoothing: float = 0.0,
) -> ScoreCall:
    """Builds the compiled function that scores one batch of a worker's validation rows.

    The function takes images uint8 [rows, height, width, channels], labels int32 [rows] and a mask float32 [rows] that
    is 1 for a row that counts, and returns float64 [2]: loss sum and correct rows, of this worker alone. As in Keras,
    the loss has the label smoothing of the training, and no class weights.
    """
    row_losses = _build_row_losses(from_logits, label_smoothing)

    def score(images: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        outputs = model(pixels_to_inputs(images), training=False)
        loss_sum = tf.reduce_sum(row_losses(labels, outputs) * mask)
        correct = tf.reduce_sum(tf.cast(_is_correct(labels, outputs), tf.float32) * mask)
        return tf.stack([tf.cast(loss_sum, tf.float64), tf.cast(correct, tf.float64)])

    specs = [
        tf.TensorSpec([rows, *image_shape], tf.uint8),
        tf.TensorSpec([rows], tf.int32),
        tf.TensorSpec([rows], tf.float32),
    ]

    @tf.function(input_signature=specs, autograph=False)  # type: ignore[untyped-decorator]
    def score_call(images: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        return strategy.run(score, args=(images, labels, mask))

    return score_call  # type: ignore[no-any-return]


def count_correct(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Returns the number of rows whose largest output is that of their label: int32 [].

    Of a mixed label, see `augment.mix`, each class counts with its share: float32 [].
    """
    if labels.shape.rank == 2:
        own, other, share = _unmix(labels)
        own_right, other_right = (tf.cast(_is_correct(each, outputs), tf.float32) for each in (own, other))
        return tf.reduce_sum(share * own_right + (1 - share) * other_right)
    return tf.reduce_sum(tf.cast(_is_correct(labels, outputs), tf.int32))


def _build_gradients(model: keras.Model, row_losses: _RowLosses, *, batch_size: int, parts: int) -> _Compute:
    """Builds the forward and backward pass over one of the `parts` equal parts that make up the global batch."""

    def compute_gradients(images: tf.Tensor, labels: tf.Tensor) -> StepResult:
        # Only what is trained: TensorFlow would otherwise differentiate the frozen layers too, and drop the result.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([weight.value for weight in model.trainable_variables])
            outputs = model(pixels_to_inputs(images), training=True)
            losses = row_losses(labels, outputs)
            # Summed, then divided by the global batch: the optimizer sums the gradients of the replicas.
            loss = tf.reduce_sum(losses) / batch_size
            if model.losses:
                # Regularisation is the same in every part, so that each part contributes an equal fraction of it.
                loss += tf.add_n(model.losses) / parts
        gradients = tape.gradient(loss, model.trainable_variables)
        return StepResult(gradients, tf.reduce_sum(losses), count_correct(labels, outputs))

    return compute_gradients


def _in_chunks(compute: _Compute, chunks: int) -> _Compute:
    """Returns `compute` over equal chunks in parallel: nothing in the graph makes one chunk wait for another."""

    def compute_chunks(images: tf.Tensor, labels: tf.Tensor) -> StepResult:
        pairs = zip(tf.split(images, chunks), tf.split(labels, chunks), strict=True)
        results = [compute(*pair) for pair in pairs]
        by_variable = zip(*(result.gradients for result in results), strict=True)
        return StepResult(
            [None if each[0] is None else tf.add_n(each) for each in by_variable],
            tf.add_n([result.loss_sum for result in results]),
            tf.add_n([result.correct for result in results]),
        )

    return compute_chunks


def _with_seeds(
    compute: _Compute, model: keras.Model, optimizer: keras.optimizers.Optimizer, seed: int
) -> _ComputeMicroBatch:
    """Returns `compute` after it has set the seeds of the model's random layers for the step and the micro-batch."""
    reseed = find_reseed(model, seed)

    def compute_micro_batch(images: tf.Tensor, labels: tf.Tensor, micro_batch: tf.Tensor | int) -> StepResult:
        if reseed is not None:
            reseed(optimizer.iterations.value, micro_batch)
        return compute(images, labels)

    return compute_micro_batch


def _sum_over_micro_batches(
    compute: _ComputeMicroBatch,
    statistics: MovingStatistics,
    images: tf.Tensor,
    labels: tf.Tensor,
    micro_batches: int,
) -> StepResult:
    """Computes the micro-batches one after the other, and sums their results; moving statistics move once."""
    rows = labels.shape[0] // micro_batches
    images = tf.reshape(images, [micro_batches, rows, *images.shape[1:]])
    labels = tf.reshape(labels, [micro_batches, rows, *labels.shape[1:]])

    # The first micro-batch is outside of the loop, because its result shows which variables have no gradient.
    before = statistics.read()
    first = compute(images[0], labels[0], 0)
    after_first = statistics.read()
    trained = [index for index, gradient in enumerate(first.gradients) if gradient is not None]

    def add_micro_batch(index: tf.Tensor, *sums: tf.Tensor) -> list[tf.Tensor]:
        statistics.write(before)
        result = compute(images[index], labels[index], index)
        new = [*(result.gradients[each] for each in trained), result.loss_sum, result.correct]
        new += statistics.measure(after_first)
        return [index + 1, *(total + more for total, more in zip(sums, new, strict=True))]

    start = [1, *(first.gradients[each] for each in trained), first.loss_sum, first.correct]
    start += statistics.measure(after_first)
    # One iteration at a time: two at once would need the memory of two.
    _, *sums = tf.while_loop(
        lambda index, *_: index < micro_batches, add_micro_batch, start, parallel_iterations=1
    )
    gradients: list[tf.Tensor | None] = [None] * len(first.gradients)
    for index, total in zip(trained, sums, strict=False):
        gradients[index] = total
    loss_sum, correct, *moved = sums[len(trained) :]
    statistics.merge(after_first, moved, micro_batches)
    return StepResult(gradients, loss_sum, correct)


def _build_row_losses(
    from_logits: bool, label_smoothing: float, class_weights: Sequence[float] | None = None
) -> _RowLosses:
    """Builds the function of labels and outputs that returns the loss of every row: float32 [rows]."""

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

    return _mixed(row_losses)


def _mixed(row_losses: _RowLosses) -> _RowLosses:
    """Returns the loss of rows of which each has two classes: that of each class, by its share.

    Cross-entropy is linear in the target, label smoothing included, so this is the loss of the soft label.
    """

    def mixed_losses(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        if labels.shape.rank == 1:
            return row_losses(labels, outputs)
        own, other, share = _unmix(labels)
        return share * row_losses(own, outputs) + (1 - share) * row_losses(other, outputs)

    return mixed_losses


def _unmix(labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    own, other, share = tf.unstack(labels, axis=1)
    return tf.cast(own, tf.int32), tf.cast(other, tf.int32), share


def _is_correct(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    return tf.equal(tf.argmax(outputs, axis=-1, output_type=tf.int32), labels)

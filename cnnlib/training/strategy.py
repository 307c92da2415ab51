"""How the workers find each other, and the strategy they run under.

Always `MultiWorkerMirroredStrategy`, with one worker too, so that there is one code path.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.train.backend import Backend, BackendConfig

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass
class MultiWorkerConfig(BackendConfig):  # type: ignore[misc]
    """Sets TF_CONFIG on every worker.

    Not Ray's own `TensorflowConfig`: that switches every worker to Keras 2 (TF_USE_LEGACY_KERAS=1), and importing
    it loads TensorFlow into the driver and the controller, 10 s of CPU in each.
    """

    @property
    def backend_cls(self) -> type[Backend]:
        """The class that does it."""
        return _MultiWorkerBackend


class _MultiWorkerBackend(Backend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        del backend_config
        addresses = worker_group.execute(_free_address)
        ray.get(
            [
                worker_group.execute_single_async(rank, _set_tf_config, addresses, rank)
                for rank in range(len(addresses))
            ]
        )


def build_strategy() -> tf.distribute.MultiWorkerMirroredStrategy:
    """The strategy over all workers of TF_CONFIG; returns when all of them are there."""
    import tensorflow as tf

    return tf.distribute.MultiWorkerMirroredStrategy()


def replica_device(strategy: tf.distribute.Strategy) -> str:
    """The device of this worker's one replica."""
    (device,) = strategy.extended.worker_devices
    return str(device)


def average_moving_statistics(strategy: tf.distribute.Strategy, model: keras.Model) -> None:
    """Averages over the workers what each keeps for itself: the moving statistics of batch normalisation.

    Keras lets every replica move its own. They are linear in the batches, so averaging them once an epoch gives
    what averaging them at every step would. All workers must call it.
    """
    import tensorflow as tf

    own = [weight for weight in model.non_trainable_weights if tf.as_dtype(weight.dtype).is_floating]
    if not own or strategy.num_replicas_in_sync == 1:
        return

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def average() -> list[tf.Tensor]:
        def all_reduce() -> list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.MEAN, [tf.identity(each.value) for each in own])  # type: ignore[no-any-return]

        return strategy.run(all_reduce)  # type: ignore[no-any-return]

    for weight, mean in zip(own, average(), strict=True):
        weight.assign(mean)


def _free_address() -> str:
    host = ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"


def _set_tf_config(addresses: list[str], rank: int) -> None:
    task = {"type": "worker", "index": rank}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})

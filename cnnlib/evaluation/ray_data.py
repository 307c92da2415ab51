"""What this project changes inside Ray Data 2.60, whose internals it uses for that. A test fails when they move.

Ray Data hands each of its actors two arguments as references to the object store. Ray's core then logs an error for
every actor pool whose actors may restart ("Actor with class name … has constructor arguments in the object store and
max_restarts > 0", https://github.com/ray-project/ray/issues/53727), although Ray Data keeps both references alive.
Handed over by value, they come without that line.
"""

from __future__ import annotations

import logging

from ray.data import DataContext
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator


def quiet_ray_data() -> None:
    """Stops Ray Data from logging what is no error, in this process: see above; and that its bars are disabled."""
    ActorPoolMapOperator._data_context_ref = property(lambda operator: operator.data_context)
    ActorPoolMapOperator._map_transformer_ref = property(lambda operator: operator._map_transformer)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    # The evaluation shows a progress of its own: see progress.py.
    DataContext.get_current().enable_progress_bars = False

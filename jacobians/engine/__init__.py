"""The engine: the Jacobians of a batch, planned, in pieces that fit the cache, on a few threads.

```
factors --> program --> planning            what there is, the steps, their order and memory
               |
               +--> kernels --> running     each step in NumPy; pieces, workers
                                  |
                     jacobians, sweeps      what users call; scaling, where the range ends
```
"""

from jacobians.engine.jacobians import jacobian, jacobian_at, value_and_jacobian
from jacobians.engine.sweeps import jvp, vjp

__all__ = ["jacobian", "jacobian_at", "jvp", "value_and_jacobian", "vjp"]

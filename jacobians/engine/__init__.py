"""The engine: the Jacobians of a batch, planned, in pieces that fit the cache, on a few threads.

```
planning --> compiling --> program: forward, load, multiply   (products, ranges)
                 |            |
                 |         jacobians: pieces, workers ...   scaling, where the range ends
                 |            |
                 +--------> line: one point                 sweeps: JVPs and VJPs, no matrix
```
"""

from jacobians.engine.jacobians import jacobian, jacobian_at, value_and_jacobian
from jacobians.engine.sweeps import jvp, vjp

__all__ = ["jacobian", "jacobian_at", "jvp", "value_and_jacobian", "vjp"]

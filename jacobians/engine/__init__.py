"""The engine: the Jacobians of a batch, planned, in pieces that fit the cache, on a few threads.

```
planning --> compiling --> program: forward, load, multiply   (products, ranges)
                              |
        jacobians: pieces, workers ...   scaling, where the range of the dtype ends
```
"""

from jacobians.engine.jacobians import jacobian, jacobian_at, value_and_jacobian

__all__ = ["jacobian", "jacobian_at", "value_and_jacobian"]

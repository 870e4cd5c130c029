"""The lines of the benchmark: networks and batches that people meet."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One network and one batch size; 0 is a single point, not a batch."""

    name: str
    widths: tuple[int, ...]
    activation: str
    batch: int
    output_activation: str = "identity"
    neuralsens: bool = False
    loaded: bool = False  # a second process is busy on each core
    residual: bool = False  # every two layers between the first and the last are a residual block

    @property
    def work(self) -> float:
        """Entries of the Jacobians times the weights: what one sweep per output costs."""
        ways = sum(m * n for m, n in zip(self.widths[1:], self.widths, strict=False))
        return float(max(self.batch, 1) * self.widths[-1] * ways)


LINES = [
    Line("4-16-16-2 tanh, a point", (4, 16, 16, 2), "tanh", 0),
    Line("4-16-16-2 tanh, 1,000", (4, 16, 16, 2), "tanh", 1000, neuralsens=True),
    Line("3-64-5 tanh, 128", (3, 64, 5), "tanh", 128),
    Line("784-512-256-10 relu, a point", (784, 512, 256, 10), "relu", 0),
    Line("784-512-256-10 relu, 16", (784, 512, 256, 10), "relu", 16, neuralsens=True),
    Line("784-512-256-10 relu, 256", (784, 512, 256, 10), "relu", 256),
    Line("20-64-64-1 tanh, 10,000", (20, 64, 64, 1), "tanh", 10_000),
    Line("13-100-100-1 tanh, 100,000", (13, 100, 100, 1), "tanh", 100_000),
    Line("64-64-10 tanh softmax, 256", (64, 64, 10), "tanh", 256, "softmax"),
    Line("784-256-32-256-784 relu, 32", (784, 256, 32, 256, 784), "relu", 32),
    Line("16-256-4096 relu, 8", (16, 256, 4096), "relu", 8),
    Line("128 x 100 layers tanh, a point", (128,) * 101, "tanh", 0),
    Line("128 x 100 layers tanh, 16", (128,) * 101, "tanh", 16),
    Line("1024 x 3 layers tanh, 4", (1024,) * 4, "tanh", 4),
    Line("5-50x6-5 relu, a point", (5, *(50,) * 6, 5), "relu", 0),
    Line("5-50x6-5 relu, 10,000", (5, *(50,) * 6, 5), "relu", 10_000),
    Line("20-64x17-10 tanh, 1,000", (20, *(64,) * 17, 10), "tanh", 1_000),
    Line(
        "20-64x17-10 tanh, 8 residual blocks, 1,000",
        (20, *(64,) * 17, 10),
        "tanh",
        1_000,
        residual=True,
    ),
    Line("5-50x6-5 relu, 1,000, at full load", (5, *(50,) * 6, 5), "relu", 1_000, loaded=True),
]

"""What takes a process of its own: the time to the first Jacobian, and peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from lines import LINES
from peers import installed

import jacobians as jb

FRESH = {
    "jacobians": "import jacobians as jb; J = jb.jacobian(jb.load(model), X)",
    "JAX": """
import jax, jax.numpy as jnp
z = np.load(model)
W = [(jnp.asarray(z[f'{l}.W']), jnp.asarray(z[f'{l}.b'])) for l in (1, 2, 3)]
def f(x):
    for W_, b in W[:-1]:
        x = jnp.tanh(W_ @ x + b)
    return W[-1][0] @ x + W[-1][1]
J = np.asarray(jax.jit(jax.vmap(jax.jacrev(f)))(X))
""",
    "PyTorch": """
import torch
z = np.load(model)
W = [(torch.from_numpy(z[f'{l}.W']), torch.from_numpy(z[f'{l}.b'])) for l in (1, 2, 3)]
def f(x):
    for W_, b in W[:-1]:
        x = torch.tanh(torch.nn.functional.linear(x, W_, b))
    return torch.nn.functional.linear(x, *W[-1])
J = torch.func.vmap(torch.func.jacrev(f))(torch.from_numpy(X)).numpy()
""",
}
MODULES = {"jacobians": "jacobians", "JAX": "jax", "PyTorch": "torch"}


def fresh_processes(rounds=5):
    """Print the time from the start of Python to the first Jacobian, import and load included."""
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder) / "net.npz")
        jb.save(jb.Network.random([20, 64, 64, 1], seed=0, dtype=np.float32), model)
        start = f"import numpy as np; model = {model!r}; X = np.ones((100, 20), np.float32)\n"
        codes = {"nothing but NumPy": start, **{name: start + code for name, code in FRESH.items()}}
        taken = {name: [] for name in codes if installed(MODULES.get(name, "numpy"))}
        for _ in range(rounds):
            for name, times in taken.items():
                begin = time.perf_counter()
                subprocess.run([sys.executable, "-c", codes[name]], check=True, capture_output=True)
                times.append(time.perf_counter() - begin)
    print("fresh process to its first Jacobian, 20-64-64-1, 100 points (median):")
    for name, times in taken.items():
        print(f"  {name}: {np.median(times):.2f} s")


MEMORY = """
import json, re, sys, numpy as np
sys.path.insert(0, {folder!r})
from lines import LINES
from bench_jacobians import problem
from peers import PEERS, ours
line = LINES[{number}]
given = problem(line, np.dtype("float32"))
# not getrusage: its peak is inherited from the process that started this one
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
call = (ours if {name!r} == "jacobians" else PEERS[{name!r}][1])(*given)[{task!r}]
call() if {warm} else None
open("/proc/self/clear_refs", "w").write("5")
before = peak()
J = call()
print(json.dumps([peak() - before, J.nbytes]))
"""


def peak_memory(words=None):
    """Print by how much one call raises the peak of its process, for ours and JAX."""
    names = {"jacobians": "jacobian"} | ({"JAX": "jacobian reverse"} if installed("jax") else {})
    print("growth of the peak of the process in one call, float32, beside the size of the result:")
    for number, line in enumerate(LINES):
        if line.batch < 100 or (words and not any(word in line.name for word in words)):
            continue
        shown = []
        for name, task in names.items():
            code = MEMORY.format(
                folder=str(Path(__file__).parent),
                number=number,
                name=name,
                task=task,
                warm=name != "jacobians",  # compiling is not counted
            )
            run = subprocess.run(
                [sys.executable, "-c", code], check=True, capture_output=True, text=True
            )
            grown, result = json.loads(run.stdout)
            shown.append(f"{name} {grown / 2**20:.0f} MiB")
        print(f"  {line.name}: {', '.join(shown)}; result {result / 2**20:.1f} MiB")

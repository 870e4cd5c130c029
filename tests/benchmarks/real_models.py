"""Compare ONNX files with references: ``python tests/benchmarks/real_models.py FOLDER``.

Beside ``NAME.onnx`` stands ``NAME.reference.npz``, made by another program from the same file, with
``inputs`` (points, n), and either ``outputs`` (points, m) and ``jacobians`` (points, m, n), or the
names of the outputs and for the k-th of them ``y{k}`` (points, m) and ``J{k}`` (points, rows,
columns), the first rows of its Jacobian at ``columns``.  Several inputs stand one after the other.
A file of a fixed batch has references for the whole batch; the network is asked for its points.

Prints one line per output: what was loaded or why not, and the largest differences of values and
Jacobians in float64, relative to the largest entry.  Exit status 1 if something loaded differs by
more than ``--tolerance``, unless onnxruntime gives the values of this library to 1e-4 (it computes
in float32): then the reference is wrong, as some evaluators are with an ``output_padding``.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import jacobians as jb
from jacobians.importers import from_onnx


def references(path):
    """Yield (output, inputs, input sizes, values, rows of the Jacobian, their columns)."""
    stored = np.load(path.with_name(f"{path.stem}.reference.npz"))
    inputs = stored["inputs"].astype(np.float64)
    if "y0" not in stored:
        yield None, inputs, [inputs.shape[1]], stored["outputs"], stored["jacobians"], None
        return
    sizes = [int(n) for n in stored["input_sizes"]]
    names = [str(name) for name in stored["input_names"]]
    for k, output in enumerate(stored["outputs"]):
        parts = dict(zip(names, np.split(inputs, np.cumsum(sizes)[:-1], axis=1), strict=True))
        yield str(output), parts, sizes, stored[f"y{k}"], stored[f"J{k}"], stored["columns"]


def whole(net, x, parts):
    """Return value and Jacobian for a whole batch of points, entry by entry of what the file has.

    A fixed batch B is B points; the Jacobian of all of it has theirs along its diagonal.
    """
    names = list(net.inputs) if parts and set(net.inputs) <= set(parts) else list(parts)
    sizes = [parts[name] for name in names]
    count = sum(sizes) // net.widths[0]
    starts = dict(zip(parts, np.cumsum([0, *list(parts.values())[:-1]]), strict=True))
    columns = [
        np.arange(starts[name], starts[name] + parts[name]).reshape(count, -1) for name in names
    ]
    columns = np.concatenate(columns, axis=1)  # (count, n): where each point's entries stand
    y, J = net(x[columns]), np.asarray(jb.linearize(net, x[columns]).jacobian())
    total = np.zeros((count, net.widths[-1], len(x)))
    for k in range(count):
        total[k][:, columns[k]] = J[k]
    return y.reshape(-1), total.reshape(-1, len(x))


def differences(net, inputs, sizes, y, J, columns):
    """Return the largest differences of values and of Jacobians over all points."""
    if isinstance(inputs, dict):
        parts = {name: part.shape[1] for name, part in inputs.items()}
        X = np.concatenate(list(inputs.values()), axis=1)
    else:
        parts, X = {"x": inputs.shape[1]}, inputs
    worst = [0.0, 0.0]
    for k, x in enumerate(X):
        value, jacobian = whole(net, x, parts)
        jacobian = jacobian[: J.shape[1]]
        jacobian = jacobian if columns is None else jacobian[:, columns]
        if value.shape != y[k].shape or jacobian.shape != J[k].shape:
            return [np.inf, np.inf]
        for j, (ours, theirs) in enumerate(((value, y[k]), (jacobian, J[k]))):
            gap = np.abs(ours - theirs).max(initial=0) / max(1.0, np.abs(theirs).max(initial=0))
            worst[j] = max(worst[j], float(gap))
    return worst


def agrees_with_onnxruntime(path, output, net, inputs):
    """Tell whether another runtime gives the values of the network, for one input."""
    try:
        import onnxruntime
    except ImportError:
        return False
    session = onnxruntime.InferenceSession(path)
    (given,) = session.get_inputs()
    points = np.concatenate(list(inputs.values()), axis=1) if isinstance(inputs, dict) else inputs
    shape = [n if isinstance(n, int) else 1 for n in given.shape]
    for x in points:
        feed = {given.name: x.astype("f4").reshape(shape)}
        (y,) = session.run([output] if output else None, feed)
        if np.abs(y.ravel() - net(x)).max() > 1e-4 * max(1.0, np.abs(y).max()):
            return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-6)
    arguments = parser.parse_args()
    loaded = refused = wrong = 0
    print("| file | output | network, or why not | values | Jacobian |\n|---|---|---|---:|---:|")
    for path in sorted(arguments.folder.glob("*.onnx")):
        for output, *reference in references(path):
            row = f"| {path.name} | {output or ''} |"
            try:
                net = from_onnx(path, output).astype(np.float64)
            except jb.ModelFormatError as err:
                refused += 1
                print(f"{row} {str(err).removeprefix(f'{path.name}: ')[:120]} | | |", flush=True)
                continue
            values, jacobian = differences(net, *reference)
            loaded += 1
            bad = not max(values, jacobian) <= arguments.tolerance
            excused = bad and agrees_with_onnxruntime(path, output, net, reference[0])
            wrong += bad and not excused
            mark = " **differs**" if bad else ""
            mark += ", onnxruntime does not" if excused else ""
            size = f"{net.widths[0]} to {net.widths[-1]}, {net.depth} layers"
            print(f"{row} {size}{mark} | {values:.1e} | {jacobian:.1e} |", flush=True)
    print(
        f"\n{loaded} loaded, {refused} refused, {wrong} differ by more than {arguments.tolerance:g}"
    )
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()

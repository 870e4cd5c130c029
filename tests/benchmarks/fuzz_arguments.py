"""Call every public name with good and with wrong arguments, drawn at random.

``python tests/benchmarks/fuzz_arguments.py --seconds 180``.  Good arguments must be taken.  A wrong
one may be taken where it makes sense, and else is a ValueError or a TypeError whose message names
it; nothing else is raised, no warning is given, no array of the caller changes, and nothing takes
seconds.  Prints the counts, and every broken promise with its seed; then the exit status is 1.
"""

import argparse
import inspect
import random
import re
import sys
import time
import warnings
from collections import Counter
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
from argument_cases import CALLS, WRONG
from guard import fingerprints

import jacobians as jb

SECONDS = 5.0  # of processor time, for one call on networks of a few units
OURS = "|".join([*jb.__all__, *(f.__name__ for f in CALLS), "point", "array", "Gradients"])


def is_ours(message, wrong, value):
    """Tell whether a message names the wrong argument, or begins with what was called or read."""
    if isinstance(value, str) and message.startswith(f"{value}:"):  # the name of a file
        return True
    return re.search(rf"\b{wrong}\b|^(\w+\.)?({OURS})\b.*(: | @ )", message, re.IGNORECASE)


def judged(seed):
    """Make one call: "taken" or "refused", and what is wrong with that, or None."""
    dice = random.Random(str(seed))
    function, arguments = dice.choice(list(CALLS.items()))
    drawn = {name: dice.choice(good) for name, good in arguments.items() if dice.random() < 0.8}
    required = inspect.signature(function).parameters.values()
    for parameter in required:
        if parameter.default is parameter.empty and parameter.name in arguments:
            drawn.setdefault(parameter.name, dice.choice(arguments[parameter.name]))
    wrong = dice.choice(list(drawn)) if drawn and dice.random() < 0.8 else None
    if wrong:
        drawn[wrong] = dice.choice(WRONG)
    text = f"{function.__qualname__}({', '.join(f'{k}={v!r:.50}' for k, v in drawn.items())})"
    before, start = list(fingerprints(drawn)), time.process_time()
    try:
        with np.errstate(all="raise"), warnings.catch_warnings():
            warnings.simplefilter("error")
            function(**drawn)
        verdict, problem = "taken", None
    except (ValueError, TypeError) as err:
        verdict, problem = "refused", None
        if not wrong and not fits_together(err):
            problem = f"a good call is refused: {err}"
        elif wrong and drawn[wrong] is not len and not is_ours(str(err), wrong, drawn[wrong]):
            problem = f"does not name {wrong}: {type(err).__name__}: {err}"
    except FloatingPointError as err:  # an overflow is told as NumPy is set to tell it
        verdict, problem = "overflow", None if "overflow" in str(err) else str(err)
    except BaseException as err:
        verdict, problem = "refused", f"{type(err).__name__}: {err}"
    if list(fingerprints(drawn)) != before:
        problem = "an array was changed"
    elif time.process_time() - start > SECONDS:
        problem = f"{time.process_time() - start:.1f} s"
    return verdict, problem and f"{text}: {problem}"


def fits_together(err):
    """Tell whether values that are good one by one were refused together."""
    return isinstance(err, jb.ShapeError) or re.search(r"\b(both|either|a loss|need Y)\b", str(err))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    end, counts = time.monotonic() + arguments.seconds, Counter()
    for k in count():
        if time.monotonic() > end:
            break
        verdict, problem = judged((arguments.seed, k))
        counts[verdict] += 1
        if problem:
            counts["BROKEN"] += 1
            print(f"({arguments.seed}, {k}) {problem:.600}", flush=True)
    print(", ".join(f"{n:,} {verdict}" for verdict, n in counts.most_common()))
    return int(counts["BROKEN"] > 0)


if __name__ == "__main__":
    sys.exit(main())

"""Load the files from anywhere under watch: ``python tests/hostile_loading.py FOLDER``.

Prints one line of JSON per file: whether it gave a network or which refusal, the seconds of
processor time, the peak of memory, and every event of an audit hook that loading has no business
to cause.  An interpreter of its own, because an audit hook can never be taken off again.
"""

import json
import os
import sys
import time
import tracemalloc

BASE, FACTOR, SECONDS = 64 * 2**20, 3, 1.0  # what a file may cost: bytes, times its size, time
SUSPECT = ("exec", "import", "os.", "subprocess.", "socket.", "ctypes.", "pickle.", "shutil.")
HARMLESS = {"os.listdir", "os.scandir"}


class Watch:
    """Notes what happens while it is armed."""

    def __init__(self):
        self.folder, self.seen = None, []
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if self.folder is None:
            return
        if event == "open":
            path = arguments[0]
            inside = isinstance(path, (str, bytes)) and os.path.realpath(os.fsdecode(path))
            if not inside or os.path.dirname(inside) != self.folder:
                self.seen.append(f"open {path!r}")
        elif event.startswith(SUSPECT) and event not in HARMLESS:
            self.seen.append(f"{event} {arguments!r:.80}")


def resident(field):
    """Read a line of /proc/self/status in bytes, where there is one."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            lines = dict(line.split(":", 1) for line in status)
        return 1024 * int(lines[field].split()[0])
    except OSError:
        return 0


def forget_peak():
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # VmHWM starts again from VmRSS
    except OSError:
        pass


def load(path):
    """Load as a user would, and say what came of it."""
    import jacobians as jb

    layers = {".safetensors": 1, ".mat": 2}.get(os.path.splitext(path)[1])
    named = {"activations": ["identity"] * layers} if layers else {}
    try:
        return repr(jb.load(path, **named))
    except jb.ModelFormatError as err:
        named_it = str(err).startswith(os.path.basename(path))
        return f"refused: {err}" if named_it else f"does not name the file: {err}"
    except ValueError as err:  # a file of other layers than the activations are for
        if not named or "activation" not in str(err):
            raise
        return f"refused: {err}"


def watched(path, watch):
    """Load a file three times: for events and time, for the machine's memory, and for Python's."""
    size = os.path.getsize(path)
    watch.folder = os.path.dirname(os.path.realpath(path))
    start = time.process_time()
    try:
        verdict = load(path)
    except BaseException as err:
        verdict = f"{type(err).__name__}: {err}"
    seconds, watch.folder = time.process_time() - start, None
    events, watch.seen = watch.seen, []
    peaks = []
    for measure in (_resident_peak, _traced_peak):
        try:
            peaks.append(measure(path))
        except BaseException as err:
            verdict = f"{type(err).__name__}: {err}"
    return {
        "file": os.path.basename(path),
        "verdict": verdict,
        "seconds": round(seconds, 3),
        "bytes": max(peaks, default=0),
        "size": size,
        "events": events,
        "fine": verdict.startswith(("refused", "Network"))
        and seconds < SECONDS
        and max(peaks, default=0) <= BASE + FACTOR * size
        and not events,
    }


def _resident_peak(path):
    forget_peak()
    before = resident("VmRSS")
    load(path)
    return resident("VmHWM") - before


def _traced_peak(path):
    tracemalloc.start()
    try:
        load(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def main(folder):
    watch = Watch()
    names = sorted(os.listdir(folder))
    for name in names:  # everything that loading imports on its first time, refusals included
        if name.startswith("warm_up"):
            load(os.path.join(folder, name))
    for name in names:
        print(json.dumps(watched(os.path.join(folder, name), watch)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

"""The words of the command line: one line for a mistake, with the word that was meant.

Here is how words are read and refused; what the commands do with them is in ``cli``.
"""

from __future__ import annotations

import argparse
import codecs
import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

from jacobians._tables import listed


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and which command was meant."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        message = re.sub(
            r"argument COMMAND: invalid choice: '(.*?)' \(choose from (.*)\)",
            lambda match: _unknown_command(match[1], re.findall(r"[\w-]+", match[2])),
            " ".join(message.split()),
        )
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def _unknown_command(word: str, commands: Sequence[str]) -> str:
    return f"no command {word!r}{did_you_mean(word, commands) or '; ' + ', '.join(commands)}"


def did_you_mean(word: str, words: Sequence[str]) -> str:
    """Return the end of a sentence that asks for the closest word; nothing if none is close.

    >>> did_you_mean("agee", ["age", "bmi"]), did_you_mean("x", ["age"])
    ("; did you mean 'age'?", '')
    """
    lowered = {each.lower(): each for each in words}
    close = get_close_matches(word.lower(), lowered, n=1)
    return f"; did you mean {lowered[close[0]]!r}?" if close else ""


def as_bytes(text: str) -> int:
    """Read a number of bytes: 65536, 64KiB, 1.5G.

    >>> as_bytes("64KiB"), as_bytes("1.5M"), as_bytes("2kB")
    (65536, 1572864, 2000)
    """
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{0,18})?)\s*([kKMG]?)(i?)(B?)", text, re.ASCII)
    if not match:
        raise argparse.ArgumentTypeError(f"expected a size such as 64MiB, but got {text!r:.60}")
    number, prefix, binary, byte = match.groups()
    base = 1000 if prefix and byte and not binary else 1024
    return int(float(number) * base ** " KMG".index(prefix.upper() or " "))


def split_names(texts: Sequence[str] | None, names: Sequence[str] = ()) -> list[str] | None:
    """Cut texts at their commas; one that is a name as a whole is not cut.

    >>> split_names(["a, b", "pixel 1,2"], ["pixel 1,2"])
    ['a', 'b', 'pixel 1,2']
    """
    if texts is None:
        return None
    parts = [part for text in texts for part in ([text] if text in names else text.split(","))]
    return [part if part in names else part.strip() for part in parts]


def chosen(texts: Sequence[str] | None, names: Sequence[str], option: str) -> list[int] | None:
    """Read names, or numbers from 0, of inputs or outputs; each once.

    Raises
    ------
    ValueError
        Naming the option, the word and what was meant.

    >>> chosen(["bmi,0"], ["age", "bmi"], "--inputs")
    [1, 0]
    """
    words = split_names(texts, names)
    if words is None:
        return None
    numbers = []
    for word in words:
        if word in names:
            numbers.append(names.index(word))
        elif word.isdecimal() and len(word) < 10:
            if int(word) >= len(names):
                raise ValueError(
                    f"{option}: expected numbers below {len(names)}, but got {int(word)}."
                )
            numbers.append(int(word))
        else:
            raise ValueError(
                f"{option}: {word!r:.60} is not one of {_shown(names)}"
                f"{did_you_mean(word, names) or '.'}"
            )
    twice = [names[j] for j in dict.fromkeys(numbers) if numbers.count(j) > 1]
    if twice:
        raise ValueError(f"{option}: expected each once, but got {listed(twice)} again.")
    return numbers


def units(texts: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Read ``NAME=UNIT`` of inputs and outputs.

    >>> units(["age=years,bmi=kg/m2"], ["age", "bmi"])
    {'age': 'years', 'bmi': 'kg/m2'}
    """
    given = {}
    for text in texts:
        for part in [text] if text.rpartition("=")[0] in names else text.split(","):
            name, sign, unit = part.rpartition("=")
            name = name.strip()
            if not sign or not name:
                raise ValueError(f"--units: expected NAME=UNIT, but got {part!r:.60}.")
            if name not in names:
                raise ValueError(
                    f"--units: no input or output is called {name!r:.60}"
                    f"{did_you_mean(name, names) or '.'}"
                )
            given[name] = unit.strip()
    return given


def require_writable(path: str | None, suffixes: Sequence[str]) -> None:
    """Find out before the work, not after it, that a result could not be written."""
    if path is None:
        return
    if os.path.splitext(path)[1] not in suffixes:
        raise ValueError(
            f"-o: expected a name ending in {' or '.join(suffixes)}, but got {path!r}."
        )
    folder = os.path.dirname(path)
    if not os.path.isdir(folder or "."):
        raise FileNotFoundError(f"-o {path}: there is no folder {folder!r}.")
    if os.path.isdir(path) or not os.access(folder or ".", os.W_OK):
        raise PermissionError(f"-o: cannot write {path!r}.")


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


# --- output ---------------------------------------------------------------------------------------

_ASCII = str.maketrans(
    {"░": ".", "▒": ":", "▓": "*", "█": "#", "╲": "\\", "·": ".", "µ": "u", "σ": "s", "×": "x"}
    | {"−": "-", "≤": "<=", "≥": ">=", "±": "+-", "∂": "d", "⊗": "(x)", "ᵀ": "^T", "∞": "inf"}
    | {"δ": "delta", "Δ": "Delta", "λ": "lambda", "∇": "grad ", "⊙": "o", "…": "...", "⋯": "..."}
    | {"⋮": ":", "⋱": "\\"}
)
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾", "0123456789+-()")


def _as_ascii(err: UnicodeError) -> tuple[str, int]:
    """Write what a stream cannot with the letters that every stream has."""
    if not isinstance(err, UnicodeEncodeError):
        raise err
    text = re.sub("[⁰¹²³⁴-⁹⁺⁻⁽⁾]+", r"^\g<0>", err.object[err.start : err.end])
    text = text.translate(_RAISED).translate(_ASCII)
    return text.encode("ascii", "replace").decode("ascii"), err.end


def print_anywhere() -> None:
    """Let standard output and error take any character, whatever their encoding."""
    codecs.register_error("jacobians.ascii", _as_ascii)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="jacobians.ascii")

"""A page of its own: numbers and pictures in one HTML file, without scripts and connections.

The words are in ``report.html``; this module fills them in with jinja2, which escapes every name,
and writes the file beside the old one before it replaces it.
"""

from __future__ import annotations

import base64
import importlib
import io
import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jacobians._checks import missing_extra
from jacobians._writing import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def render(page: Mapping[str, Any], provenance: Mapping[str, str]) -> str:
    """Fill in the template.

    Parameters
    ----------
    page : dict
        What the template names.
    provenance : dict of str
        Rows of the last section, after the versions.

    Returns
    -------
    str

    Raises
    ------
    ImportError
        If jinja2 is not installed, naming the extra that brings it.
    """
    require()
    import jinja2

    folder = os.path.dirname(__file__)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "percent": percent, "visible": visible}
    template = environment.get_template("report.html")
    text: str = template.render(page, provenance={**versions(), **provenance})
    return text + "\n"


def style() -> str:
    """Return the style sheet of the page, with its tags, for pages that are written elsewhere."""
    with open(os.path.join(os.path.dirname(__file__), "report.html"), encoding="utf-8") as file:
        text = file.read()
    return text[text.index("<style>") : text.index("</style>") + len("</style>")]


def require() -> None:
    """Refuse early if a package is not installed.

    Raises
    ------
    ImportError
        Naming the extra that brings it.
    """
    for package in ("jinja2", "matplotlib"):
        try:
            importlib.import_module(package)
        except ImportError:
            raise missing_extra(package, "report", "the report page") from None


def versions() -> dict[str, str]:
    """Name what computed the numbers."""
    import platform
    from importlib import metadata

    try:
        own = metadata.version("jacobians")
    except metadata.PackageNotFoundError:  # run from a checkout
        own = "not installed"
    return {"jacobians": own, "numpy": np.__version__, "Python": platform.python_version()}


# --- numbers and names as people read them --------------------------------------------------------


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with a few digits and a real minus sign; a dash if there is none.

    >>> number(-0.012345), number(1234567.0), number(12345.6), number(2.0), number(float("nan"))
    ('−0.0123', '1.23e6', '12346', '2', '–')
    >>> number(1e-6), number(0.5, digits=2), number(100.4)
    ('1e−6', '0.50', '100')
    """
    if value is None or not np.isfinite(value):
        return "–"
    size = abs(value)
    if value == int(value) and size < 1e5:
        text = f"{value:.0f}"
    elif 1e-3 <= size < 1e5:
        text = f"{value:.{max(0, digits - 1 - int(np.floor(np.log10(size))))}f}"
    else:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.removesuffix("." + "0" * (digits - 1))
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-0", "0") if text == "-0" else text.replace("-", "−")


def percent(value: float | None) -> str:
    """Write a share.

    >>> percent(0.123), percent(0.0001)
    ('12 %', '< 0.1 %')
    """
    if value is None or not np.isfinite(value):
        return "–"
    if 0 < value < 0.001:
        return "< 0.1 %"
    return f"{100 * value:.{0 if value >= 0.02 or value == 0 else 1}f} %"


def visible(name: str) -> str:
    """Show signs that have no picture, such as those that reverse the text, as a box.

    >>> visible("a" + chr(0x202E) + "b")
    'a�b'
    """
    return "".join(c if c.isprintable() else "�" for c in str(name)) or "(no name)"


# --- pictures -------------------------------------------------------------------------------------


def new_figure(width: float, height: float) -> Figure:
    """Make a figure that pyplot knows nothing of, in inches."""
    require()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def data_uri(figure: Figure) -> str:
    """Write a figure as SVG into an address that holds all of it; the same each time."""
    import matplotlib

    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "jacobians"}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # then it is a box
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", dpi=200, metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


# --- files ----------------------------------------------------------------------------------------


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8, replacing an old one in one step or leaving it as it was."""
    with replacing(path) as file:
        file.write(text.encode())

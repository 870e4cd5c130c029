"""The derivation of a network: terms, the rules that make them, conventions, documents.

=============== ==================================================================================
``terms``       formulas as objects that evaluate, with errors, and can be transformed
``functions``   activations, slopes and cotangents with what may move them
``starts``      what a loss starts the way back with; ``rules`` one rule for every quantity
``evaluation``  the values of all lines
``notation``    conventions as data; lines as another text lays them out
``writers``     the walk through a term, ``markup`` the alphabets: Unicode, LaTeX, MathML
``checks``      of each line against another computation; ``building`` says which lines are shown
``document``    ``derive``; ``playing`` a page on which x can be dragged
=============== ==================================================================================
"""

from jacobians.derivation.document import Derivation, derive
from jacobians.derivation.notation import CONVENTIONS, Convention
from jacobians.derivation.playing import example, to_interactive

__all__ = ["CONVENTIONS", "Convention", "Derivation", "derive", "example", "to_interactive"]

"""Diagnosis: which mistake explains the difference between somebody's derivatives and ours.

=============== ==================================================================================
``ways``        ways to write a line of a derivation wrong
``mistakes``    the catalogue: a way, and the lines it is made in
``case``        values of all lines with mistakes in them, and what is within rounding of them
``search``      which sets of mistakes reproduce given arrays, the smallest first
``claims``      somebody's arrays, in the layout of those lines
``drawing``     networks on which no two mistakes look the same
``verdicts``    what they say; ``record`` prints it
``diagnosing``  ``diagnose``
=============== ==================================================================================
"""

from jacobians.diagnosis.diagnosing import diagnose
from jacobians.diagnosis.record import Diagnosis, Slip

__all__ = ["Diagnosis", "Slip", "diagnose"]

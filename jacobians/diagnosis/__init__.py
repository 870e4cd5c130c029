"""Diagnosis: which mistake explains the difference between somebody's derivatives and the right ones.

=============== ==================================================================================
``mistakes``    the catalogue, as changes of the lines of a derivation
``search``      which sets of them reproduce given arrays, the smallest first
``claims``      somebody's arrays, in the layout of those lines
``drawing``     networks on which no two mistakes look the same
``diagnosing``  the verdict in words
=============== ==================================================================================
"""

from jacobians.diagnosis.diagnosing import Diagnosis, Slip, diagnose

__all__ = ["Diagnosis", "Slip", "diagnose"]

"""Small sets of numbers and letters that a command has something to do with on its first call.

digits.csv.gz: 1,797 hand-written digits of 8 x 8 grey values from 0 to 16, with their labels
(Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI, CC BY 4.0).
protein.*.conll.gz: the residues of 128 proteins and their secondary structure, h helix, e sheet,
_ coil (Qian & Sejnowski 1988, UCI, CC BY 4.0).
sunspots.yearly.csv.gz, sunspots.monthly.csv.gz: mean sunspot numbers of the years 1700 to 2008 and
of the months from 1749 on (National Geophysical Data Center, by way of statsmodels; public domain).
"""

from pathlib import Path


def embedded_file(name: str) -> str:
    """The path of one of the files here."""
    return str(Path(__file__).parent / name)

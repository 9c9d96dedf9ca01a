"""The literature reproduced: tables as TOML and their runner."""

from divulge.studies.base import Results, Row, Study
from divulge.studies.runner import KINDS, listed, open_study, planned, run_study

__all__ = ["KINDS", "Results", "Row", "Study", "listed", "open_study", "planned", "run_study"]

"""Attacks that rebuild training records, or pick them out of candidates."""

from divulge.attacks.reconstruction.informed import LastRecord, LinearModel, last_record, read_out
from divulge.attacks.reconstruction.kkt import KKT, Candidates
from divulge.attacks.reconstruction.pool import pooled
from divulge.attacks.reconstruction.prior_aware import Identification, PriorAware
from divulge.attacks.reconstruction.transcript import Recorder, Transcript

__all__ = [
    "KKT",
    "Candidates",
    "Identification",
    "LastRecord",
    "LinearModel",
    "PriorAware",
    "Recorder",
    "Transcript",
    "last_record",
    "pooled",
    "read_out",
]

"""Datasets and where their bytes come from."""

from divulge.data.cache import cache_root
from divulge.data.dataset import Dataset, as_dataset, concatenate
from divulge.data.images import Size
from divulge.data.load import load
from divulge.data.split import Split, copies, overlap, require_disjoint, split, without

__all__ = [
    "Dataset",
    "Size",
    "Split",
    "as_dataset",
    "cache_root",
    "concatenate",
    "copies",
    "load",
    "overlap",
    "require_disjoint",
    "split",
    "without",
]

"""Datasets and where their bytes come from."""

from divulge.data.dataset import Dataset, as_dataset, concatenate

__all__ = ["Dataset", "as_dataset", "concatenate"]

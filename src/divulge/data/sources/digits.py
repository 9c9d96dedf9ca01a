"""The handwritten digits that come with scikit-learn."""

import numpy as np
import torch

from divulge.data.dataset import Dataset


def read(part: str) -> Dataset:
    """The 1,797 handwritten digits inside scikit-learn, 8 x 8 gray; they have one part.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    inputs = torch.from_numpy(digits.images.astype(np.float32)).div_(16)
    return Dataset(inputs.unsqueeze(1), torch.from_numpy(digits.target.astype(np.int64)))

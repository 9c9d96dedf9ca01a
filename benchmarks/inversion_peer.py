"""ART's MIFace on a network whose weights it is given; runs in the peers' environment.

`python inversion_peer.py TASK.npz DRAWN.npy` writes the drawings and prints one JSON object: `seconds`.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from art.attacks.inference.model_inversion import MIFace
from art.estimators.classification import PyTorchClassifier
from torch import nn


def main(task: str, drawn: str) -> None:
    """Build the network, draw every class, write and print."""
    torch.set_num_threads(1)
    with np.load(task, allow_pickle=False) as given:
        shape, steps = tuple(int(side) for side in given["shape"]), int(given["steps"])
        tensors = [torch.from_numpy(given[f"tensor{number}"]) for number in range(int(given["tensors"]))]
    layers: list[nn.Module] = [nn.Flatten()]
    for weight, bias in zip(tensors[::2], tensors[1::2], strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data, layer.bias.data = weight, bias
        layers += [layer, nn.Sigmoid()]
    model = nn.Sequential(*layers[:-1], nn.Softmax(dim=1)).eval()
    classes = len(tensors[-1])
    classifier = PyTorchClassifier(model, nn.NLLLoss(), shape, classes, clip_values=(0.0, 1.0))
    attack = MIFace(classifier, max_iter=steps, verbose=False)
    start = time.perf_counter()
    found = attack.infer(np.zeros((classes, *shape), dtype=np.float32), np.arange(classes))
    spent = time.perf_counter() - start
    with Path(drawn).open("wb") as file:
        np.save(file, found)
    print(json.dumps({"seconds": spent}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Greedy training of a stack of denoising autoencoders, before the network on it is trained as a whole."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from divulge.errors import BadInputError
from divulge.models.denoising import Autoencoder, DenoisingStack

BATCH = 64


def pretrain(model: nn.Module, records: Tensor, *, seed: int) -> None:
    """Train each autoencoder of a fresh `DenoisingStack` at the entrance of `model`; one that was trained stays.

    Each restores what it is given from a copy with entries set to zero, by the cross-entropy of every entry (Vincent et
    al. 2010, jmlr.org/papers/v11/vincent10a), and hands its code of the whole records to the next.

    Args:
        model: on the device of `records`.
        records: float32 `(N, *shape)` in `[0, 1]`.
        seed: of the order of records and the masks.

    Raises:
        BadInputError: records outside `[0, 1]`, or a stack that is not at the entrance.
    """
    for stack in [module for module in model.modules() if isinstance(module, DenoisingStack)]:
        if stack.pretrained:
            continue
        given = records.flatten(1)
        layers = [layer for layer in stack.layers if isinstance(layer, Autoencoder)]
        expected = layers[0].linear.in_features
        if given.shape[1] != expected or not (given.min() >= 0 and given.max() <= 1):
            raise BadInputError(
                f"pretraining: expected records of {expected} entries in [0, 1] for autoencoders with sigmoid outputs, "
                f"got {given.shape[1]} entries from {float(given.min()):.3g} to {float(given.max()):.3g}. Put the "
                "stack at the entrance of its network, and scale the records."
            )
        generator = torch.Generator().manual_seed(seed)
        for layer in layers:
            _restore(layer, given, stack, generator)
            with torch.no_grad():
                given = layer(given)
        stack.pretrained.fill_(True)


def _restore(layer: Autoencoder, given: Tensor, stack: DenoisingStack, generator: torch.Generator) -> None:
    bias = layer.visible.clone().requires_grad_()
    optimizer = torch.optim.Adam([*layer.parameters(), bias], lr=stack.lr)
    for _ in range(stack.epochs):
        for rows in torch.randperm(len(given), generator=generator).split(BATCH):
            batch = given[rows.to(given.device)]
            kept = torch.rand(batch.shape, generator=generator).to(batch) >= stack.corruption
            outputs = layer.encode(batch * kept) @ layer.linear.weight + bias
            loss = functional.binary_cross_entropy_with_logits(outputs, batch, reduction="sum") / len(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    layer.visible.copy_(bias.detach())
    layer.zero_grad()

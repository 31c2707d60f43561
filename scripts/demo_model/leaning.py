"""How readily a trained model speaks, moved once more: what `--eagerness` does, written into the weights.

The published layout has no bias at the head. But the hidden states in which the model decides to speak or not fill so
few dimensions that there is a direction in which all of them measure nearly one; what is added to a row of the head
along it is a bias in all but name.
"""

from collections.abc import Iterable

import torch

from learner import Batch, Network
from vocabulary import TOKEN_IDS

HEAD = "lm.lm_head.weight"
DUE_WEIGHT = 10.0  # moments to speak are a tenth of all
RIDGE = 1e-3


def lean(
    weights: dict[str, torch.Tensor], batches: Iterable[Batch], by: float
) -> tuple[dict[str, torch.Tensor], float]:
    """The weights with `by` added to the logit of speaking, and how far from even that is (the standard deviation).

    The direction is found by least squares over the hidden states of these batches.
    """
    network = Network()
    network.load_state_dict(weights)
    kept: list[torch.Tensor] = []
    hook = network.lm.lm_head.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    targets = []
    with torch.no_grad():
        for batch in batches:
            network.losses(batch)
            targets.append(batch.targets)
    hook.remove()
    target = torch.cat(targets)
    due = target == TOKEN_IDS.text_begin
    decides = due | (target == TOKEN_IDS.keep_silence)
    hidden = torch.cat(kept)[decides].double()
    weight = torch.where(due[decides], DUE_WEIGHT, 1.0).double()[:, None]
    ridge = RIDGE * len(hidden) * torch.eye(hidden.shape[1]).double()
    direction = torch.linalg.solve(hidden.T @ (weight * hidden) + ridge, (hidden.T @ weight)[:, 0])
    head = weights[HEAD].clone()
    head[TOKEN_IDS.text_begin] += by * direction.to(head)
    return weights | {HEAD: head}, abs(by) * (hidden @ direction).std().item()

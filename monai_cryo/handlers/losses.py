"""The loss of every iteration, over all ranks, read once; a training ends where it is no number any more."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents

from monai_cryo._described import Described
from monai_cryo.io.atomic import write_text

__all__ = ["TrainingLoss"]


class TrainingLoss(Described):
    """Read the loss and its parts, and stop a training whose loss or gradient is not finite, before the weights change.

    All ranks' means stand in the trainer's output under ``losses``: ``loss``, and each of the parts by its name. They
    and the largest absolute gradient come to the host together.

    What the batch was drawn with is then in ``not_finite.json``: ``iteration``, ``loss``, ``gradient`` and, in the
    batch's order, ``parameters``, from which :class:`monai_cryo.engines.SimulateBatch` makes it again. The weights
    before it are those of ``checkpoint.pt`` and the iterations since.

    Parameters
    ----------
    loss
        :class:`monai_cryo.losses.TwoBranchLoss` of the trainer.
    network
        Whose gradient is looked at.
    output_dir
        Folder of ``not_finite.json``.
    """

    def __init__(self, loss: Any, network: torch.nn.Module, output_dir: str) -> None:
        self.loss, self.network, self.path = loss, network, Path(output_dir) / "not_finite.json"

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI trainer.

        Raises
        ------
        ValueError
            If the trainer scales its gradients (`amp`), which are looked at here.
        """
        if getattr(engine, "amp", False):
            raise ValueError("the trainer's amp must be false: --precision bfloat16 computes in half the precision")
        engine.add_event_handler(Events.STARTED, self._forget)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def _forget(self) -> None:
        if idist.get_rank() == 0:
            self.path.unlink(missing_ok=True)  # an earlier run's

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        """Read.

        Raises
        ------
        ValueError
            If the loss or the gradient is not finite, on any rank.
        """
        output = engine.state.output
        scalars = {"loss": output["loss"], **self.loss.parts(output["pred"], output["label"])}
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        largest = torch.nn.utils.get_total_norm(gradients, norm_type=math.inf)
        values = torch.stack([value.float() for value in (*scalars.values(), largest)])
        values = idist.all_reduce(values) / idist.get_world_size()
        *means, gradient = values.tolist()
        output["losses"] = dict(zip(scalars, means, strict=True))
        if not math.isfinite(means[0]) or not math.isfinite(gradient):
            self._stop(engine.state.iteration, means[0], gradient, output["label"])

    def _stop(self, iteration: int, loss: float, gradient: float, label: Mapping[str, Any]) -> None:
        drawn = list(label.get("parameters", []))
        if idist.get_world_size() > 1:
            shares: list[Any] = [None] * idist.get_world_size()
            torch.distributed.all_gather_object(shares, drawn)
            drawn = [item for items in zip(*shares, strict=True) for item in items]  # dealt to the ranks in turn
        if idist.get_rank() == 0:
            content = {"iteration": iteration, "loss": repr(loss), "gradient": repr(gradient), "parameters": drawn}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps(content, indent=1) + "\n")
        what = "loss" if not math.isfinite(loss) else "gradient"
        raise ValueError(
            f"the {what} of iteration {iteration} is {loss if what == 'loss' else gradient}: training has stopped "
            f"before the weights were changed; what its {len(drawn)} samples were drawn with is in {self.path}"
        )

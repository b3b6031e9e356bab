"""A TensorBoard log that begins with the first thing to log."""

from __future__ import annotations

from typing import Any

from monai_cryo._described import Described


class LazySummaryWriter(Described):
    """``torch.utils.tensorboard.SummaryWriter``, made when it is first used: a refused run leaves no event file.

    What an earlier run logged in this folder is then hidden; one that goes on sets `purge_step` before, to where what
    it does anew begins.

    Parameters
    ----------
    log_dir
        Folder of the log.
    """

    def __init__(self, log_dir: str) -> None:
        self.log_dir = log_dir
        self.purge_step = 0  # an earlier run's log in this folder is no part of this one

    def __getattr__(self, name: str) -> Any:
        """Make the writer, once, and hand on to it."""
        if name.startswith("__") or name == "_writer":
            raise AttributeError(name)
        from torch.utils.tensorboard import SummaryWriter

        if "_writer" not in self.__dict__:
            self.__dict__["_writer"] = SummaryWriter(log_dir=self.log_dir, purge_step=self.purge_step)
        return getattr(self.__dict__["_writer"], name)

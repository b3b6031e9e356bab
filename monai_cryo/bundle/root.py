"""Where the bundle lies, and where a run left its results."""

from __future__ import annotations

from pathlib import Path


def bundle_root() -> Path:
    """Folder of the subtomogram bundle: in the installed package, or in the checkout.

    Raises
    ------
    FileNotFoundError
        If it is in neither.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "bundles" / "subtomogram", package.parent / "bundles" / "subtomogram"):
        if (folder / "configs").is_dir():
            return folder
    raise FileNotFoundError(f"no bundle beside {package}: reinstall monai-cryo")


def say_where(output_dir: str) -> None:
    """Tell where the results of a training lie."""
    folder = Path(output_dir)
    print(
        f"""
model        {folder / "model.pt"}
checkpoint   {folder / "checkpoint.pt"}
pictures     {folder / "predictions.png"}
metrics      {folder / "metrics.json"}
parameters   {folder / "parameters.csv"}
TensorBoard  tensorboard --logdir {folder}""",
        flush=True,
    )

"""The verb ``bundle``: where the MONAI bundle lies."""

from __future__ import annotations

import argparse

from monai_cryo.cli.parser import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    about = "Print the folder of the MONAI bundle, for --bundle_root."
    example = 'monai.bundle run training --bundle_root "$(python -m monai_cryo bundle)" ...'
    add_verb(verbs, "bundle", about, example).set_defaults(run=_print_bundle)


def _print_bundle(options: argparse.Namespace) -> None:
    from monai_cryo.bundle import bundle_root

    print(bundle_root())

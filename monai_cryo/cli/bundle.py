"""The verb ``bundle``: where the MONAI bundle lies."""

from __future__ import annotations

import argparse

from monai_cryo.cli.parser import Verbs


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    about = "Print the folder of the MONAI bundle, for --bundle_root."
    verbs.add_parser("bundle", help=about, description=about).set_defaults(run=_print_bundle)


def _print_bundle(options: argparse.Namespace) -> None:
    from monai_cryo.bundle import bundle_root

    print(bundle_root())

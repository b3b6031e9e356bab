"""monai_cryo: recognise molecules in cryo-electron tomograms, trained on simulation alone.

A MONAI extension. Import what you need from the rooms, which mirror MONAI's own:
``monai_cryo.transforms``, ``.data``, ``.networks``, ``.losses``, ``.metrics``, ``.engines``, ``.handlers``; the
physics behind the transforms is plain torch in ``monai_cryo.physics``.
"""

__version__ = "0.1.0"

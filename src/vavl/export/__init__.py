"""Exported models: graphs that run without vavl's code, checked against the model they come from.

One graph per use (acoustic, visual, audiovisual), each with everything in it: normalisation, masks,
branch, head. Batch and time are dynamic. :mod:`vavl.inference.exported` reads what is written here.
"""

from vavl.export.folder import ExportReport, export_model

__all__ = ["ExportReport", "export_model"]

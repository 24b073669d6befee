"""From predictions on held-out speakers to honest tables and pictures.

:mod:`~vavl.evaluation.predictions` holds what models predicted, :mod:`~vavl.evaluation.views` the
ways to read it, and what is scored. :func:`~vavl.evaluation.scores.evaluate_tables` turns
prediction tables into an :class:`~vavl.evaluation.scores.Evaluation`, which
:func:`~vavl.evaluation.report.write_report` writes down;
:func:`~vavl.evaluation.compare.compare` tests two variants of a study against each other.
"""

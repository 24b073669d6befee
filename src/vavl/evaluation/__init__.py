"""From predictions on held-out speakers to honest tables and pictures.

:mod:`~vavl.evaluation.predictions` holds what models predicted, :mod:`~vavl.evaluation.views` the
ways to read it, :mod:`~vavl.evaluation.quantities` what is scored.
:func:`~vavl.evaluation.scores.evaluate_tables` turns prediction tables into an
:class:`~vavl.evaluation.scores.Evaluation`, and :func:`~vavl.evaluation.compare.compare` tests two
variants against each other. :mod:`~vavl.evaluation.wording` and :mod:`~vavl.evaluation.plots` show
what came out; :func:`~vavl.evaluation.summary.print_scores` and
:func:`~vavl.evaluation.report.write_report` do so for an evaluation,
:func:`vavl.studies.tables.write_study` for a study.
"""

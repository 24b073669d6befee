"""From predictions on held-out speakers to honest tables and pictures.

Three calls make up the room: :func:`~vavl.evaluation.scores.evaluate_tables` turns prediction
tables into an :class:`~vavl.evaluation.scores.Evaluation`,
:func:`~vavl.evaluation.summary.print_scores` shows it, and
:func:`~vavl.evaluation.report.write_report` writes it as a page and as data.
"""

"""Studies: variants of an experiment, trained on the same folds and seeds, and compared honestly.

A study is a TOML file (:mod:`vavl.studies.config`). :mod:`vavl.studies.plan` turns it into tasks;
:mod:`vavl.studies.run` does those that are not done yet; :mod:`vavl.studies.results` turns
predictions into comparisons (:mod:`vavl.evaluation.compare` has the tests); and
:mod:`vavl.studies.tables` writes tables and pictures.
"""

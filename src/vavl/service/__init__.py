"""The service: a page and an API over HTTP, for clips and for live input.

``server`` runs ``app``, which answers requests. ``predictions`` and ``live`` hand the work to
``workers``, processes that run ``tasks``: nothing is decoded or predicted in the process that
listens.
"""

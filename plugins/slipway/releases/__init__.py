"""What was deployed, how it went, and what it measured: the history that every other step reads and writes.

``store`` keeps it in SQL, ``artifacts`` keeps what is too large for that, ``inventory`` puts a release into the
cluster it serves in, from which the SQL can be restored. Importing this package imports no SQLAlchemy: the modules
that need it are imported where a history is opened.
"""

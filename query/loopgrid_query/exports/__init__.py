"""Exports with lineage: decisions and their ground truth as training and test data, each row traceable.

``asking`` reads what is asked for, ``source`` reads the ledger as of one commit, ``messages`` and ``formats``
make rows (pure), ``splits`` says which side a subject is on (pure), ``writing`` makes the files and the
manifest, ``affected`` compares an export with what the ledger says now.
"""

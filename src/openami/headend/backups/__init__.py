"""A head-end's store as one file that proves itself, and back (decision 0066).

A backup is a tar of two members: ``manifest.json`` says what the second one is and what was in it; the second is a
SQLite file, or what ``pg_dump --format=custom`` wrote. So it can be opened without this program. Keys, certificates
and configuration are not in it: they have a custody of their own.
"""

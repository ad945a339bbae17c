"""What leaves the head-end as a file, for those who analyse, verify and pay; and how an archive comes back.

selection.py     which readings, and all of them in order, a page in memory at a time
neutral.py       our own table of readings: one row a register value, customers under a pseudonym
pseudonyms.py    customers under another name
sheets.py        rows as CSV or JSON Lines
parquet.py       readings as columns; needs pyarrow
payments.py      settlements in the shape payments are pulled in for results-based financing
prospect.py      readings in the columns Prospect and the Africa Minigrids Program publish
verification.py  a connection's use in one row
archive.py       everything as one self-describing file
restoring.py     … and back into a store, whole or not at all
"""

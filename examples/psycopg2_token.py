#!/usr/bin/python3
"""psycopg 2: write on the primary, read it back on a standby.

    PRIMARY_URL=... STANDBY_URL=... ./psycopg2_token.py

The token comes with the write, as ParameterStatus: asking the connection for
it is no round trip.
"""
import os
import sys

import psycopg2

primary = psycopg2.connect(os.environ["PRIMARY_URL"])
standby = psycopg2.connect(os.environ["STANDBY_URL"])

with primary, primary.cursor() as cur:
    cur.execute("INSERT INTO notes (body) VALUES (%s) RETURNING id", ["hello from psycopg2"])
    (note,) = cur.fetchone()
# Only now: the token arrives with the COMMIT, which the end of "with" sends.
token = primary.info.parameter_status("tcs.session_token")
print("token:", token)

# psycopg 2 puts parameters into the text, so both statements travel in one
# message, which is one transaction; without autocommit there would be a BEGIN
# before it, with a round trip of its own.
standby.autocommit = True
with standby.cursor() as cur:
    cur.execute(
        "SET LOCAL tcs.session_token = %s; SELECT body FROM notes WHERE id = %s",
        [token, note],
    )
    row = cur.fetchone()
print("standby:", row[0] if row else "no such row")

sys.exit(0 if token and row else 1)

#!/usr/bin/python3
"""psycopg 3: write on the primary, read it back on a standby.

    PRIMARY_URL=... STANDBY_URL=... ./psycopg3_token.py

The token comes with the write, as ParameterStatus: asking the connection for
it is no round trip.
"""
import os
import sys

import psycopg

with psycopg.connect(os.environ["PRIMARY_URL"], autocommit=True) as primary:
    (note,) = primary.execute(
        "INSERT INTO notes (body) VALUES (%s) RETURNING id", ["hello from psycopg 3"]
    ).fetchone()
    token = primary.info.parameter_status("tcs.session_token")
print("token:", token)

# In a pipeline BEGIN, token and read go out together.  SET takes no
# parameters; set_config() does, and its "true" means SET LOCAL.
with psycopg.connect(os.environ["STANDBY_URL"]) as standby, standby.pipeline():
    standby.execute("SELECT set_config('tcs.session_token', %s, true)", [token])
    row = standby.execute("SELECT body FROM notes WHERE id = %s", [note]).fetchone()
print("standby:", row[0] if row else "no such row")

sys.exit(0 if token and row else 1)

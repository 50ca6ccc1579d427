#!/bin/sh
# External check of HAProxy: exits with 0 if reads of the level named below
# would be served by this server now.
#
# HAProxy calls it with: address and port of the proxy, address and port of the
# server.  It hands on no environment but its own HAPROXY_* variables, so
# everything is said here.

level=bounded
max_staleness='2 seconds'

export PGUSER=haproxy PGDATABASE=postgres PGCONNECT_TIMEOUT=2

# The question needs no freshness itself, so it is answered also by a standby
# that is cut off.  Any failure is a "no".
[ "$(psql -X -h "$3" -p "$4" -Atc "SELECT tcs.can_serve('$level', '$max_staleness')")" = t ]

#!/bin/sh
# External check of HAProxy.  Exits with 0 if this server is what its backend
# wants: in the backend "primary" the primary, in any other a standby that would
# serve a read of the level below now.
#
# HAProxy calls it with: address and port of the proxy, address and port of the
# server.  It hands on no environment but PATH and its own HAPROXY_* variables,
# so everything is said here.

level=bounded
max_staleness='2 seconds'
seconds=2		# less than "inter" in haproxy.cfg

# A role without any rights, and a database that has the extension.  The user of
# HAProxy needs a way to log in: ~/.pgpass, or a certificate.
export PGUSER=haproxy PGDATABASE=postgres PGAPPNAME=haproxy_check

if [ "${HAPROXY_PROXY_NAME:-}" = primary ]; then
	question='SELECT NOT pg_is_in_recovery()'
else
	question="SELECT pg_is_in_recovery() AND tcs.can_serve('$level', '$max_staleness')"
fi

# The question needs no freshness itself, so a standby that is cut off answers it
# as well.  Any failure is a "no", and so is a server that does not answer in time.
[ "$(timeout "$seconds" psql -X -h "$3" -p "$4" -Atc "$question")" = t ]

#!/usr/bin/php
<?php
// PHP, pgsql: write on the primary, read it back on a standby.
//
//     PRIMARY_URL=... STANDBY_URL=... ./pgsql.php
//
// The token comes with the write, as ParameterStatus: asking the connection
// for it is no round trip.

$primary = pg_connect(getenv('PRIMARY_URL'), PGSQL_CONNECT_FORCE_NEW) or exit(1);
$standby = pg_connect(getenv('STANDBY_URL'), PGSQL_CONNECT_FORCE_NEW) or exit(1);

$written = pg_query_params($primary, 'INSERT INTO notes (body) VALUES ($1) RETURNING id', ['hello from PHP']) or exit(1);
$id = pg_fetch_result($written, 0, 0);
$token = pg_parameter_status($primary, 'tcs.session_token');
echo "token: $token\n";

// Without parameters both statements travel in one message, which is one
// transaction, so the token goes when the read is done.  pg_query returns the
// result of the last one.
$read = pg_query($standby, sprintf(
    'SET LOCAL tcs.session_token = %s; SELECT body FROM notes WHERE id = %s',
    pg_escape_literal($standby, $token),
    pg_escape_literal($standby, $id))) or exit(1);
$found = pg_num_rows($read) === 1;
echo 'standby: ', $found ? pg_fetch_result($read, 0, 0) : 'no such row', "\n";

exit($token && $found ? 0 : 1);

# test/t/514_redirect_columns.pl
#
# What has to stay on the standby is not redirected. Where the primary has other
# columns than the client was promised, there is an error, and never a row (see
# TcsStatements.pm).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsStatements;
use TcsTest;
use TcsTranscript;
use TcsWire;

my $nodes = TcsStatements->new;
my ($primary, $standby, $token, $on_primary, $on_standby) = @$nodes{qw(primary standby token on_primary on_standby)};


##
## What has to stay
##

my $refused = qr/error \| .* C: TC001 .*cannot be redirected/;

$nodes->stays('pg_stat_activity', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = pg_backend_pid()}, qr/^t$/m);
$nodes->stays('pg_is_in_recovery()', 'SELECT pg_is_in_recovery()', qr/^t$/m);
$nodes->stays('tcs.status', 'SELECT role FROM tcs.status', qr/^standby/m);
$nodes->stays('SHOW', 'SHOW primary_conninfo', qr/host=/);
$nodes->stays('a constant', 'SELECT 1', qr/^1$/m);
my %must_stay = (
	'pg_stat_activity and a table' => 'SELECT v FROM t, pg_stat_activity',
	'a view over pg_stat_activity' => 'SELECT count(*) > 0 FROM who_is_here',
	'a view over both' => 'SELECT * FROM v_and_who',
	'a view that asks for recovery' => 'SELECT * FROM recovers',
	'pg_stat_user_tables' => q{SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 't'},
	'pg_statio_user_tables' => q{SELECT relname FROM pg_statio_user_tables},
	'pg_is_in_recovery() and a table' => 'SELECT pg_is_in_recovery(), v FROM t',
	'in a subquery' => 'SELECT v FROM t WHERE (SELECT pg_is_in_recovery())',
	'in a CTE' => 'WITH c AS (SELECT pg_backend_pid()) SELECT * FROM c, t',
	'in ORDER BY' => 'SELECT v FROM t ORDER BY pg_backend_pid()',
	'in a function of FROM' => 'SELECT v FROM t, pg_backend_pid()',
	'tcs.status and a table' => 'SELECT v, s.role FROM t, tcs.status s',
	'tcs.last_read and a table' => 'SELECT v, (SELECT outcome FROM tcs.last_read) FROM t',
	'tcs.session_token()' => 'SELECT v, tcs.session_token() FROM t',
	'pg_export_snapshot()' => 'SELECT pg_export_snapshot(), v FROM t',
	'advisory locks' => 'SELECT pg_advisory_lock(id), v FROM t',
	'advisory locks, shared, tried' => 'SELECT pg_try_advisory_xact_lock_shared(1, id) FROM t',
	'set_config()' => q{SELECT set_config('app.x', v, false) FROM t},
	'set_config() of a role' => q{SELECT set_config('role', 'alice', true), v FROM t},
	'setseed()' => 'SELECT setseed(0.5), v FROM t',
	'settings of the server' => q{SELECT v, current_setting('work_mem') FROM t},
	'a setting whose name is not known' => 'SELECT current_setting(v, true) FROM t',
	'pg_settings' => 'SELECT v, setting FROM t, pg_settings',
	'pg_locks' => 'SELECT v, pid FROM t, pg_locks',
	'pg_cursors' => 'SELECT v, name FROM t, pg_cursors',
	'pg_prepared_statements' => 'SELECT v, name FROM t, pg_prepared_statements',
	'positions of WAL' => 'SELECT pg_last_wal_replay_lsn(), v FROM t',
	'the transaction' => 'SELECT pg_current_snapshot(), v FROM t',
	'the connection' => 'SELECT inet_server_port(), v FROM t',
	'files' => q{SELECT pg_stat_file('PG_VERSION'), v FROM t},
	'signals' => 'SELECT pg_cancel_backend(0), v FROM t',
	'locking rows' => 'SELECT v FROM t FOR UPDATE',
	'DO' => 'DO $$BEGIN PERFORM v FROM t; END$$',
	'COPY of a table' => 'COPY t TO STDOUT',
	'CREATE TABLE AS' => 'CREATE TABLE x AS SELECT v FROM t',
);

$nodes->both('SET max_parallel_workers_per_gather = 0');
foreach my $name (sort keys %must_stay)
{
	# what recovery refuses anyway is not for the primary, and needs no wait
	my $state = $name =~ /^(?:locking rows|CREATE TABLE AS)$/ ? '25006' : 'TC001';

	$nodes->stays($name, $must_stay{$name}, qr/error \| .* C: $state /);
}
like(transcript($on_standby, 'SELECT v, pg_is_in_recovery() FROM t'), $refused, 'the error says why');

# Both know the setting: one that nobody has named yet is NULL.
$nodes->both(q{SET app.x = 'joe'; RESET app.x});

# What a user's function does shows only there.
foreach my $name ('app.x', 'work_mem', 'search_path', 'TimeZone')
{
	foreach my $local ('true', 'false')
	{
		my $got = transcript($on_standby, "SELECT sets('$name', $local), v FROM t WHERE id = 1");

		like($got, qr/error \| .* C: (0A000|22023) /, "a function that sets $name ($local) is an error");
	}
}
is($on_standby->ok_query(q{SELECT current_setting('app.x', true)}), '', 'and nothing has changed here');
$nodes->same('nor in later statements', q{SELECT current_setting('app.x', true) FROM one});
$nodes->same('a function with settings of its own', 'SELECT sets_and_restores() FROM one');
like(transcript($on_standby, q{SELECT query_to_xml('SELECT set_config(''app.x'', ''changed'', false)', true, true, '') FROM one}),
	qr/error \| .* C: (0A000|TC001) /, 'a query in a string that changes a setting is an error');


##
## Columns that have changed on the primary
##

# Prepared and described while the columns were the same.
foreach my $table (qw(s_add s_type s_typmod s_wider s_drop s_again s_name s_label s_pair s_part s_view))
{
	$on_standby->parse("on_$table", "SELECT * FROM $table")->describe('S', "on_$table")->sync->results;
	$on_standby->ok_query("PREPARE sql_$table AS SELECT * FROM $table");
}
$token = write_token(
	$primary, q{
ALTER TABLE s_add ADD c int DEFAULT 5; UPDATE s_add SET b = 'new';
ALTER TABLE s_type ALTER b TYPE text USING 'new';
ALTER TABLE s_typmod ALTER b TYPE varchar(2) USING 'nw';
ALTER TABLE s_wider ALTER b TYPE varchar(20) USING 'new and much longer';
ALTER TABLE s_drop DROP b;
ALTER TABLE s_again DROP b, ADD b int DEFAULT 7;
ALTER TABLE s_name RENAME TO s_name2; UPDATE s_name2 SET b = 'new';
ALTER TYPE mood RENAME VALUE 'sad' TO 'blue';
ALTER TYPE pair ADD ATTRIBUTE c int; UPDATE s_pair SET p = (1, 'new', 3);
CREATE TABLE s_part2 PARTITION OF s_part FOR VALUES IN (2);
UPDATE s_part SET b = 'new'; INSERT INTO s_part VALUES (2, 'new');
CREATE OR REPLACE VIEW s_view AS SELECT 'new'::text AS w, 1 AS a});
$on_standby->ok_query("SET tcs.session_token = '$token'");

my $cannot = qr/error \| .* C: 40001 /;
my %changed = (
	s_add => qr/(^1\|new$|$cannot)/m,
	s_type => $cannot,
	s_typmod => $cannot,
	s_wider => $cannot,
	s_drop => qr/error \| .* C: (40001|42703) /,
	s_again => $cannot,
	s_name => qr/error \| .* C: (40001|42P01) /,
	s_label => qr/error \| /,
	s_pair => qr/error \| /,
	s_part => qr/^1\|new\n2\|new$/m,
	s_view => qr/^new\|1$/m,
);

foreach my $table (sort keys %changed)
{
	my %got = (
		simple => transcript($on_standby, "SELECT * FROM $table ORDER BY 1, 2"),
		prepared => transcript($on_standby, sub { $_[0]->bind('', "on_$table")->execute('')->sync }),
		binary => transcript($on_standby, sub { bind_as($_[0], '', "on_$table", 1)->execute('')->sync }),
		EXECUTE => transcript($on_standby, "EXECUTE sql_$table"),
		COPY => transcript($on_standby, "COPY (SELECT * FROM $table) TO STDOUT"),
		cursor => transcript($on_standby, "BEGIN; DECLARE c CURSOR FOR SELECT * FROM $table; FETCH ALL FROM c; COMMIT"),
	);

	$on_standby->query('ROLLBACK');
	foreach my $way (sort keys %got)
	{
		unlike($got{$way}, qr/\bold\b|\bsad\b/, "$table: no old row, $way");
		next if $way =~ /binary|COPY/ && $table =~ /s_add|s_part|s_view/;
		like($got{$way}, $changed{$table}, "$table: $way");
	}
}
$nodes->same('a name that is new on the primary', 'SELECT tableoid::regclass::text, * FROM s_part ORDER BY 1');
my @told = map { transcript($_, 'SELECT tableoid::regclass, a FROM s_part ORDER BY 1') } $on_primary, $on_standby;
ok($told[1] eq $told[0] || $told[1] =~ /error \| .* C: 4/, 'an object that only the primary knows')
  or diag($told[1]);

done_testing();

# test/t/220_processes.pl
#
# Processes that are no client's, and programs that are.  With a strict level
# made the default of a whole server, on a standby that cannot serve it,
# clients are refused; walsenders, the WAL receiver, parallel workers,
# autovacuum and logical replication must go on as ever.  The library refuses to
# be loaded late.  Single-user mode, pg_basebackup, pg_dump, parallel restore
# and pg_upgrade work with tcs installed; pg_dump waits once, as any client
# does, and a role can be exempted.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;

my ($primary, $standby) = new_pair(
	conf => "wal_level = logical\n",
	primary_conf => "autovacuum_naptime = 1s\n");
my $read = 'SELECT count(*) FROM t';

$primary->safe_psql(
	'postgres',
	q{CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 10);
	  CREATE TABLE replicated (a int PRIMARY KEY);
	  CREATE ROLE dumper SUPERUSER LOGIN;
	  ALTER ROLE dumper SET tcs.read_level = 'eventual'});
$primary->safe_psql('postgres', 'CREATE DATABASE subscriber');
$primary->safe_psql('subscriber', 'CREATE EXTENSION tcs; CREATE TABLE replicated (a int PRIMARY KEY)');
wait_for_replay($primary, $standby);
wait_for_answer($standby);


##
## Loaded late
##

my $late = PostgreSQL::Test::Cluster->new('late');

$late->init;
$late->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$late->start;
my ($state, $err) = psql_err($late, q{LOAD 'tcs'});

is($state, '55000', 'LOAD without preloading is refused');
like($err, qr/Add tcs to shared_preload_libraries/, '... with the cure');
is(psql_err($late, 'CREATE EXTENSION tcs'), '55000', 'CREATE EXTENSION as well');
is( $late->safe_psql('postgres', q{SELECT count(*) FROM pg_extension WHERE extname = 'tcs'}),
	'0', 'nothing is left of it');
is(psql_err($late, 'SELECT 1', options => '-c session_preload_libraries=tcs'),
	'08006', 'session_preload_libraries is too late, too');
$late->stop;


##
## A strict default on a standby that cannot serve it
##

$standby->append_conf(
	'postgresql.conf', q{
tcs.read_level = strong
tcs.max_wait = 50ms
tcs.primary_conninfo = 'host=127.0.0.1 port=1 dbname=postgres'
});
$standby->restart;
$standby->poll_query_until('postgres',
	q{SELECT link_state = 'down' FROM tcs.status})
  or die 'the link did not go down';
is(psql_err($standby, $read), 'TC004', 'a client is refused by the default level');

# What a DBA looks at must not be.
foreach my $sql (
	'SELECT 1', 'SELECT pg_is_in_recovery()', 'SELECT * FROM pg_stat_activity',
	'SELECT * FROM pg_stat_wal_receiver', 'SELECT pg_last_wal_replay_lsn()',
	'SELECT * FROM tcs.status', 'SHOW ALL')
{
	is(psql_err($standby, $sql), '00000', "... but not here: $sql");
}

# Walsenders, plain and with a database.
is( $standby->psql(
		'postgres', $read,
		connstr => $standby->connstr('postgres') . ' replication=database'),
	0,
	'a walsender that reads tables is not held');
$standby->command_ok(
	[
		'pg_basebackup', '-D', PostgreSQL::Test::Utils::tempdir . '/base',
		'-d', $standby->connstr, '-X', 'none', '-c', 'fast', '--no-sync'
	],
	'pg_basebackup is not held');

# The standby goes on.
$primary->safe_psql('postgres', 'INSERT INTO t VALUES (11)');
wait_for_replay($primary, $standby);
is(read_at($standby, $read, level => 'eventual'), '11', 'replay is not held');

# pg_dump is a client; its role can be exempted.
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump';

$standby->command_fails_like([ 'pg_dump', '-d', $standby->connstr('postgres') ],
	qr/cannot tell whether this standby is fresh enough/,
	'pg_dump is refused by the default level');
$standby->command_ok(
	[
		'pg_dump', '-Fd', '-j', '2', '-f', $dump, '-d',
		$standby->connstr('postgres') . ' user=dumper'
	],
	'pg_dump of a role that is exempt is not');

# With the link in order.
$standby->append_conf('postgresql.conf', q{tcs.primary_conninfo = ''});
$standby->append_conf('postgresql.conf', q{tcs.max_wait = 60s});
$standby->reload;
wait_for_answer($standby);
is(read_at($standby, $read), '11', 'now the level is served');

# Workers of a parallel plan read with the snapshot of their leader.
my $parallel = q{
SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0; SET max_parallel_workers_per_gather = 2;
};

$primary->safe_psql('postgres', 'CREATE TABLE big AS SELECT generate_series(1, 50000) AS a');
wait_for_replay($primary, $standby);

like(
	read_at($standby, "BEGIN; $parallel EXPLAIN (ANALYZE, COSTS OFF) SELECT count(*) FROM big"),
	qr/Workers Launched: [12]/,
	'a parallel plan has workers');
is(read_at($standby, "$parallel SELECT count(*) FROM big"), '50000',
	'... and the right answer');

# What a function asks for by settings of its own cannot be checked in a worker.
my %asking = (
	strong => q{tcs.read_level = 'strong'},
	bounded => q{tcs.read_level = 'bounded'},
	without => q{tcs.without_token = 'error'},
	token => "tcs.session_token = '" . write_token($primary, 'CREATE TABLE asked ()') . "'");

$primary->safe_psql('postgres', join(';', map {
	"CREATE FUNCTION f_$_(int) RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE SET $asking{$_}
	  AS 'BEGIN RETURN (SELECT count(*) FROM t); END'" } sort keys %asking));
$primary->safe_psql('postgres', q{
CREATE FUNCTION f_weaker(int) RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE SET tcs.read_level = 'eventual'
  AS 'BEGIN RETURN (SELECT count(*) FROM t); END'});
wait_for_replay($primary, $standby);
foreach my $isolation ('READ COMMITTED', 'REPEATABLE READ')
{
	foreach my $function (sort(keys %asking), 'weaker')
	{
		my (undef, undef, $err) = $standby->psql('postgres', qq{
\\set VERBOSITY sqlstate
SET default_transaction_isolation = '$isolation';
SET tcs.read_level = 'session';
$parallel SET parallel_leader_participation = off;
SELECT f_$function(a) FROM big WHERE a = 7});
		my $expected = $function eq 'weaker' ? '' :
		  $isolation eq 'READ COMMITTED' ? '55000' : '25001';

		like($err, $expected eq '' ? qr/^$/ : qr/ERROR:  $expected/, "$isolation, a worker runs a function with SET of its own: $function");
	}
}


##
## The primary: autovacuum, logical replication
##

$primary->safe_psql('postgres', q{ALTER SYSTEM SET tcs.read_level = 'strong'});
$primary->safe_psql('postgres', q{ALTER SYSTEM SET tcs.report_token = 'all'});
$primary->safe_psql('postgres', 'ALTER SYSTEM SET autovacuum = on');
$primary->restart;
$primary->safe_psql(
	'postgres',
	q{CREATE TABLE vacuumed (a int) WITH (autovacuum_vacuum_threshold = 1,
		autovacuum_vacuum_scale_factor = 0);
	  INSERT INTO vacuumed SELECT generate_series(1, 1000);
	  DELETE FROM vacuumed});
ok( $primary->poll_query_until('postgres',
		q{SELECT autovacuum_count > 0 FROM pg_stat_user_tables WHERE relname = 'vacuumed'}),
	'autovacuum works');

$primary->safe_psql('postgres',
	q{CREATE PUBLICATION pub FOR TABLE replicated; INSERT INTO replicated VALUES (1);
	  SELECT pg_create_logical_replication_slot('sub', 'pgoutput')});
my $connstr = $primary->connstr('postgres') =~ s/'/''/gr;

$primary->safe_psql('subscriber',
	"CREATE SUBSCRIPTION sub CONNECTION '$connstr' PUBLICATION pub"
	  . ' WITH (create_slot = false, slot_name = sub)');
ok($primary->poll_query_until('subscriber', 'SELECT count(*) = 1 FROM replicated'),
	'the copy of a subscription works');
$primary->safe_psql('postgres', 'INSERT INTO replicated VALUES (2)');
ok($primary->poll_query_until('subscriber', 'SELECT count(*) = 2 FROM replicated'),
	'its apply worker works');

# What it has written is read like any other write.
is(read_at($standby, 'SELECT count(*) FROM replicated', dbname => 'subscriber'),
	'2', 'its writes are covered by strong');
$primary->safe_psql('subscriber', 'DROP SUBSCRIPTION sub');


##
## pg_dump waits once
##

wait_for_replay($primary, $standby);
$standby->append_conf('postgresql.conf', q{tcs.read_level = session});
$standby->reload;
$standby->poll_query_until('postgres', q{SELECT current_setting('tcs.read_level') = 'session'});
pause_replay($standby);
my $token = write_token($primary, 'INSERT INTO t VALUES (12)');
$standby->safe_psql('postgres', 'SELECT tcs.stat_reads_reset()');
my $dumped = '';
my $dumping;
{
	local $ENV{PGOPTIONS} = "-c tcs.session_token=$token -c tcs.max_wait=-1";
	$dumping = IPC::Run::start(
		[
			$standby->installed_command('pg_dump'), '-t', 't', '-d',
			$standby->connstr('postgres')
		],
		'>', \$dumped,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
}
wait_for_waiters($standby);
resume_replay($standby);
ok($dumping->finish, 'pg_dump with a token waits and works');
like($dumped, qr/^12$/m, '... and has what the token names');
is( $standby->safe_psql('postgres',
		'SELECT sum(waited), sum(refused) FROM tcs.stat_reads'),
	'1|0',
	'... after one wait');


##
## Parallel restore, with the extension in the dump
##

$dump .= '2';
$primary->command_ok(
	[ 'pg_dump', '-Fd', '-j', '2', '-f', $dump, '-d', $primary->connstr('postgres') ],
	'parallel dump on the primary');
$primary->safe_psql('postgres', 'CREATE DATABASE restored');
$primary->command_ok([ 'pg_restore', '-j', '2', '-d', $primary->connstr('restored'), $dump ],
	'parallel restore');
is(read_at($primary, "$read; SELECT extversion FROM pg_extension WHERE extname = 'tcs'",
		dbname => 'restored'),
	"12\n1.0",
	'... has all of it');
wait_for_replay($primary, $standby);
is(read_at($standby, $read, dbname => 'restored', level => 'strong', max_wait => -1),
	'12', '... on the standby as well');


##
## Single-user mode, pg_upgrade
##

$primary->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
$primary->stop;
$standby->stop;

my ($out, $single) = ('', "SELECT count(*) FROM t;\n");

ok( IPC::Run::run(
		[
			$primary->installed_command('postgres'), '--single', '-D',
			$primary->data_dir, 'postgres'
		],
		'<', \$single, '>', \$out, '2>', '/dev/null'),
	'single-user mode works');
like($out, qr/count = "12"/, '... and reads');

# Servers that pg_upgrade starts load the library, or LOAD it, for its files.
my $bin = $primary->config_data('--bindir');

foreach my $preload ('', 'tcs')
{
	my $new = PostgreSQL::Test::Cluster->new($preload ? 'upgraded' : 'upgraded_plain');

	$new->init;
	$new->append_conf('postgresql.conf', "shared_preload_libraries = '$preload'");

	# It writes files where it is called.
	my $folder = PostgreSQL::Test::Utils::tempdir;

	chdir $folder or die "$folder: $!";
	$new->command_ok(
		[
			'pg_upgrade', '-d', $primary->data_dir, '-D', $new->data_dir,
			'-b', $bin, '-B', $bin, '-s', $new->host,
			'-p', $primary->port, '-P', $new->port
		],
		'pg_upgrade' . ($preload ? ' with the library preloaded' : ' without'));
	chdir $FindBin::RealBin;
	$new->append_conf('postgresql.conf', q{shared_preload_libraries = 'tcs'});
	$new->start;
	is( $new->safe_psql(
			'postgres',
			"$read; SELECT extversion FROM pg_extension WHERE extname = 'tcs';"
			  . ' SELECT role FROM tcs.status; SELECT count(*) FROM tcs.stat_reads'),
		"12\n1.0\nprimary\n11",
		'... and tcs works in the new cluster');
	isnt(write_token($new, 'INSERT INTO t VALUES (13)'), '', '... writes bring tokens');
	$new->stop;
}

done_testing();

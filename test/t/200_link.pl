# test/t/200_link.pl
#
# The link between a standby and its primary, and everything that can be wrong
# with it: no pg_hba.conf line, no room for another connection, a wrong
# password, a refused port, a silent primary, one without the library, one that
# is a standby itself.  Each time strong and bounded must end within max_wait
# with "freshness unknown" and the reason in words, session must not notice,
# and the link must come back by itself.  Also the other transport
# (tcs.primary_conninfo), passwords that must not show up in any log, the
# questions that tcs.probe_interval = 0 saves, the view tcs.standbys, and a
# standby that is killed while sessions wait.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsNodes;
use TcsTest;
use TcsWire;
use TcsWrites;

my $senders = 8;
my $primary = new_primary('primary',
	conf => "max_wal_senders = $senders\nmax_worker_processes = 1\n");

$primary->safe_psql(
	'postgres',
	q{SET log_statement = 'none';
	  CREATE TABLE t (v int); INSERT INTO t VALUES (0);
	  CREATE ROLE hog REPLICATION LOGIN;
	  CREATE ROLE asker REPLICATION LOGIN PASSWORD 'open-sesame-1';
	  CREATE ROLE nobody LOGIN});

my $standby = new_standby($primary, 'standby',
	conf => "max_worker_processes = 8\nlog_min_messages = debug1\n");
my $read = 'SELECT v FROM t';
my $value = 0;

wait_for_answer($standby);

# The next write.
my $write_next = counted_write(\$value, 'UPDATE t SET v = %d');

# Rules for connections without a password on the primary.
sub admit_by
{
	my (@lines) = @_;

	set_hba($primary, 'SELECT count(*) = ' . scalar(@lines) . ' FROM pg_hba_file_rules', @lines);
	return;
}

# Cuts the worker's connection to the primary.
sub cut_link
{
	my ($name) = @_;

	$primary->poll_query_until('postgres',
		'SELECT count(pg_terminate_backend(pid)) > 0 FROM tcs_internal.askers()'
		  . ' WHERE application_name = ' . "'" . ($name // 'standby') . "'")
	  or die 'nobody asks';
	return;
}

# strong and bounded do not know, session does.  The reads at strong ask, so
# the worker does not put the next attempt off.
sub link_unknown
{
	my ($what, $reason, $node) = @_;

	$node //= $standby;
	ok(wait_for_link($node, $reason->[0], $reason->[1]), "$what: tcs.status says why")
	  or diag $node->safe_psql('postgres', 'SELECT link_state, link_detail FROM tcs.status');

	my ($state, $err) = psql_err($node, $read, level => 'strong', max_wait => '300ms');

	is($state, 'TC004', "$what: strong does not know");
	like($err, qr/$reason->[1]/, '... and says why');
	$node->poll_query_until('postgres',
		'SELECT coalesce(last_answer_age > make_interval(secs => 0.1), true) FROM tcs.status');
	is( psql_err(
			$node, $read,
			level => 'bounded',
			max_staleness => '100ms',
			max_wait => '100ms'),
		'TC004',
		'... nor does bounded');
	return;
}

sub check_session
{
	my ($what, $token) = @_;

	is(read_at($standby, $read, token => $token // $write_next->($primary), max_wait => '60s'),
		$value, "$what: session is not disturbed");
	return;
}

# A strong read that may take its time brings the link back.
sub check_recovery
{
	my ($what, $node) = @_;

	$node //= $standby;
	$write_next->($primary);
	is(read_at($node, $read, level => 'strong', max_wait => -1),
		$value, "$what: the link came back");
	is( $node->safe_psql('postgres', 'SELECT link_state, link_detail IS NULL FROM tcs.status'),
		'up|t',
		'... and says so');
	return;
}


##
## Normal operation; tcs.standbys
##

# Whatever the server itself writes may have to be replayed yet.
$standby->poll_query_until('postgres', 'SELECT lag_bytes = 0 FROM tcs.status');
is( $standby->safe_psql(
		'postgres',
		q{SELECT role, replay_state, link_state, link_detail IS NULL, worker_pid IS NOT NULL,
			worker_state, last_answer_age >= make_interval(secs => 0), staleness >= last_answer_age,
			lag_bytes = 0, bound_state, waiting_sessions FROM tcs.status}),
	'standby|replaying|up|t|t|running|t|t|t|ok|0',
	'tcs.status of a standby that is well');

my $without = new_standby($primary, 'without', preload => 0);

$primary->poll_query_until('postgres',
	q{SELECT count(*) = 2 FROM pg_stat_replication WHERE state = 'streaming'});
ok( $primary->poll_query_until(
		'postgres',
		q{SELECT application_name, asks, split_part(library_version, ' ', 1), token_version,
			last_asked_time <= clock_timestamp(), questions > 0, state, staleness < make_interval(secs => 60),
			lag_bytes = 0
		  FROM tcs.standbys ORDER BY application_name COLLATE "C"},
		"standby|t|1.0|1|t|t|streaming|t|t\nwithout|f||||||streaming||" =~ s/\|\|\|\|\|\|streaming/|||||streaming/r),
	'tcs.standbys has who asks, and who never did');

# A standby without the library takes the settings and reads stale: what tells
# is that the token is not reported at connect.
is(TcsWire->new($without)->parameter('tcs.session_token'),
	undef, 'a standby without tcs reports no token at connect');
is(TcsWire->new($standby)->parameter('tcs.session_token'),
	'', 'a standby with it does');
$without->stop;
$primary->poll_query_until('postgres', q{SELECT count(*) = 1 FROM tcs.standbys});
is($primary->safe_psql('postgres', 'SELECT application_name FROM tcs.standbys'),
	'standby', 'a standby that is gone is not shown');


##
## tcs.probe_interval = 0: a question only when a statement needs an answer
##

sub questions
{
	return $primary->safe_psql('postgres',
		q{SELECT questions FROM tcs.standbys WHERE application_name = 'standby'});
}

configure($standby, 'tcs.probe_interval = 0');
$standby->poll_query_until('postgres', q{SELECT current_setting('tcs.probe_interval') = '0'});

# Until the worker knows it as well, it asks every 100 ms.
$standby->poll_query_until('postgres',
	'SELECT last_answer_age > make_interval(secs => 0.5) FROM tcs.status');
read_at($standby, $read, level => 'strong', max_wait => -1);
my $questions = questions();

read_at($standby, $read, level => 'strong', max_wait => -1) foreach 1 .. 3;
is(questions(), $questions + 3, 'probe_interval = 0: a question for each strong read');
read_at($standby, $read, level => 'bounded', max_staleness => '1h');
read_at($standby, $read, level => 'session', token => $write_next->($primary), max_wait => -1);
is(questions(), $questions + 3, '... none for what the last answer serves');
$standby->poll_query_until('postgres',
	'SELECT last_answer_age > make_interval(secs => 0.1) FROM tcs.status');
is(read_at($standby, $read, level => 'bounded', max_staleness => '100ms', max_wait => -1),
	$value, 'bounded asks when its bound is over');
is(questions(), $questions + 4, '... once');
is(questions(), $questions + 4, 'nobody asks without need');
configure($standby, q{tcs.probe_interval = '1h'});
$standby->poll_query_until('postgres', q{SELECT current_setting('tcs.probe_interval') = '1h'});
is(read_at($standby, $read, level => 'bounded', max_staleness => '1ms', max_wait => -1),
	$value, 'a bound below the interval asks at once');
configure($standby, q{tcs.probe_interval = '100ms'});
$standby->poll_query_until('postgres',
	q{SELECT current_setting('tcs.probe_interval') = '100ms'});


##
## No line in pg_hba.conf, no room on the primary
##

my @trust = ('local all all trust', 'local replication all trust');

admit_by('local all all trust', 'local replication hog trust');
cut_link();
link_unknown('no line in pg_hba.conf',
	[ 'down', 'no pg_hba.conf entry.*add the line to pg_hba.conf of the primary' ]);
check_session('no line in pg_hba.conf');

# Hogs take all connections that the WAL receiver has not.
sub walsenders
{
	return $primary->safe_psql('postgres',
		q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'});
}

my @hogs;

while (@hogs < $senders && walsenders() < $senders)
{
	my ($in, $out) = ("SHOW tcs.read_index;\n", '');
	my $hog = IPC::Run::start(
		[
			$primary->installed_command('psql'), '-XAtq', '-d',
			$primary->connstr . ' user=hog replication=true'
		],
		'<', \$in, '>', \$out, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));

	$hog->pump while $out !~ /primary/ && $hog->pumpable;
	push @hogs, $hog;
}

is(walsenders(), $senders, 'all connections for standbys are taken');
admit_by(@trust);
link_unknown('max_wal_senders reached', [ 'down', 'raise max_wal_senders on the primary' ]);
check_session('max_wal_senders reached');
foreach my $hog (@hogs)
{
	$hog->finish;
}
check_recovery('room again');


##
## A silent primary
##

my $asker = $primary->safe_psql('postgres', 'SELECT pid FROM tcs_internal.askers()');
my $token = $write_next->($primary);

kill('STOP', $asker);
is( psql_err($standby, $read, level => 'strong', max_wait => '200ms'),
	'TC004', 'an answer that does not come: strong ends in time');
check_session('an answer that does not come');
ok(wait_for_link($standby, 'stalled', 'not answered'), 'tcs.status says that the primary is silent');
my $patient = start_read($standby, $read, level => 'strong', max_wait => -1);

# The worker gives that connection up and makes another.
is(finish_read($patient), $value, 'the worker connects anew');
kill('CONT', $asker);

# Now the postmaster: connections are taken by the kernel and hang there.
my $watch = TcsWire->new($primary);
my $postmaster = slurp_file($primary->data_dir . '/postmaster.pid') =~ /^(\d+)/ ? $1 : die;

kill('STOP', $postmaster);
$watch->ok_query('SELECT pg_terminate_backend(pid) FROM tcs_internal.askers()');
is( psql_err($standby, $read, level => 'strong', max_wait => '300ms'),
	'TC004', 'a connection that hangs: strong ends in time');
$value++;
$watch->ok_query("UPDATE t SET v = $value");
check_session('a connection that hangs', $watch->parameter('tcs.session_token'));
ok(wait_for_link($standby, 'down', 'connection attempt timed out'),
	'the attempt is given up, and tcs.status says so');
kill('CONT', $postmaster);
check_recovery('the primary goes on');
$watch->disconnect;


##
## The primary is down, and up again
##

$token = $write_next->($primary);
wait_for_replay($primary, $standby);
$primary->stop('fast');
link_unknown('primary down', [ 'down', 'no WAL receiver streams to this standby' ]);
check_session('primary down', $token);
$primary->start;
check_recovery('primary up again');

# One line in the log for a cause, however often it is met.
my $log = log_position($standby);
my $primary_log = log_position($primary);

$primary->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$primary->restart;
link_unknown('primary without the library',
	[ 'down', 'the primary runs without tcs: add it to shared_preload_libraries' ]);
$value++;
$primary->safe_psql('postgres', "UPDATE t SET v = $value");
wait_for_replay($primary, $standby);
is(read_at($standby, $read, token => $token),
	$value, 'primary without the library: session is not disturbed');

# Three attempts at least.
my $attempts = start_read($standby, $read, level => 'strong', max_wait => -1);
my $pattern = qr/unrecognized configuration parameter "tcs.read_index"/;

$primary->wait_for_log(qr/(?:$pattern.*){3}/s, $primary_log);
is(scalar(() = log_since($standby, $log) =~ /no usable answer.*$pattern/g),
	1, 'one line in the log for all attempts');
$primary->append_conf('postgresql.conf', q{shared_preload_libraries = 'tcs'});
$primary->restart;
is(finish_read($attempts), $value, 'a read that has waited for it is served');
like(log_since($standby, $log), qr/tcs: connected to the primary/, 'the log has the change back');


##
## The other transport
##

my $host = $primary->host;
my $port = $primary->port;

# Wrong in several ways; the link keeps none of the secrets.
admit_by(
	'local all asker scram-sha-256',
	'local replication asker scram-sha-256', @trust);
$log = 0;

my %wrong = (
	"host=$host port=$port dbname=postgres user=asker password=wrong-sesame-2" =>
	  'password authentication failed for user',
	"host=$host port=$port dbname=postgres user=asker" => 'no password supplied',
	"host=$host port=$port dbname=postgres user=nobody" =>
	  'permission denied to ask for the read index',
	"host=$host port=$port dbname=missing user=hog" => 'database "missing" does not exist',
	"host=127.0.0.1 port=1 dbname=postgres user=asker password=open-sesame-1" => 'refused',
	"host=$host port=$port password=half-sesame-3 nonsense" => 'cannot be parsed: an option has no "="',
	"hots=$host port=$port password=half-sesame-3" => 'cannot be parsed: libpq does not know one of its options');

foreach my $conninfo (sort keys %wrong)
{
	configure($standby, "tcs.primary_conninfo = '$conninfo'");
	link_unknown("tcs.primary_conninfo ($wrong{$conninfo})", [ 'down', $wrong{$conninfo} ]);
}
check_session('a wrong tcs.primary_conninfo');

# Right: the role needs REPLICATION.  The database needs nothing.
configure($standby,
	"tcs.primary_conninfo = 'host=$host port=$port dbname=template1 user=asker password=open-sesame-1'");
check_recovery('tcs.primary_conninfo');
is( $primary->safe_psql(
		'postgres',
		q{SELECT a.usename, a.backend_type FROM tcs_internal.askers() q JOIN pg_stat_activity a USING (pid)}),
	'asker|client backend',
	'the answers come over an ordinary connection');
is( $primary->safe_psql(
		'postgres',
		q{SELECT count(*), bool_and(asks AND state = 'streaming') FROM tcs.standbys}),
	'1|t',
	'tcs.standbys takes both connections for one standby');

# The name is that of the WAL receiver, where none is given.
my $streaming = $standby->safe_psql('postgres', 'SHOW primary_conninfo');

configure($standby, "primary_conninfo = '$streaming application_name=renamed'");
ok($primary->poll_query_until('postgres', q{SELECT string_agg(concat_ws('|', application_name, asks, state), ' ') FROM tcs.standbys},
	'renamed|t|streaming'), 'the worker takes the name of the WAL receiver')
  or diag $primary->safe_psql('postgres', 'TABLE tcs.standbys');
configure($standby, "primary_conninfo = '$streaming'");
$primary->poll_query_until('postgres', q{SELECT string_agg(application_name, ' ') FROM tcs.standbys}, 'standby')
  or die 'the name did not come back';

# Under another name the two connections are two rows.  No position is known of who
# asks, and so no staleness.
configure($standby,
	"tcs.primary_conninfo = 'host=$host port=$port dbname=template1 user=asker password=open-sesame-1 application_name=apart'");
check_recovery('another name');
is( $primary->safe_psql(
		'postgres',
		q{SELECT asks, state, replay_lsn, staleness, lag_bytes
		  FROM tcs.standbys WHERE application_name = 'apart'}),
	't||||',
	'tcs.standbys: an unknown position is no staleness of 0 bytes');

# Back to the default by a reload.
configure($standby, q{tcs.primary_conninfo = ''});
$primary->poll_query_until(
	'postgres',
	q{SELECT count(*) = 1 AND bool_and(a.backend_type = 'walsender')
	  FROM tcs_internal.askers() q JOIN pg_stat_activity a USING (pid)})
  or die 'the transport did not change';
check_recovery('the default transport');

foreach my $node ($primary, $standby)
{
	unlike(slurp_file($node->logfile), qr/(?:open|wrong|half)-sesame/,
		$node->name . ': no password in the log');
}
admit_by(@trust);


##
## A standby of a standby
##

my $cascade = new_standby($standby, 'cascade');

link_unknown('a standby of a standby',
	[ 'refused', 'itself a standby; set tcs.primary_conninfo to the primary' ], $cascade);
$token = $write_next->($primary);
is(read_at($cascade, $read, token => $token, max_wait => '60s'),
	$value, 'a standby of a standby: session waits for what it needs');
configure($cascade, "tcs.primary_conninfo = 'host=$host port=$port dbname=postgres user=hog'");
check_recovery('the primary asked past its upstream', $cascade);
$cascade->stop;


##
## No worker
##

my $small = new_standby($primary, 'small', conf => "max_worker_processes = 1\n");

is( $small->safe_psql('postgres', 'SELECT worker_pid IS NULL, worker_state FROM tcs.status')
	  =~ /^t\|not_running$/ ? 1 : 0,
	1,
	'no room for the worker: tcs.status says so');
my ($state, $err) = psql_err($small, $read, level => 'strong', max_wait => '200ms');

is($state, 'TC004', '... strong does not know');
like($err, qr/worker that asks the primary is not running/, '... and says why');
pause_replay($small);
$token = $write_next->($primary);
my $alone = start_read($small, $read, token => $token, max_wait => -1);

wait_for_waiters($small);
resume_replay($small);
is(finish_read($alone), $value, '... session waits without it');
$small->stop;


##
## Killed and restarted under load
##

foreach my $round (1 .. 3)
{
	my @sessions = map { TcsWire->new($standby) } 1 .. 20;
	my $before = $value;

	pause_replay($standby);
	$token = $write_next->($primary);
	foreach my $i (0 .. 19)
	{
		$sessions[$i]->ok_query('SET tcs.max_wait = -1');
		$sessions[$i]->ok_query(
			$i % 2
			? 'SET tcs.read_level = strong'
			: "SET tcs.session_token = '$token'");
		$sessions[$i]->simple($read)->flush;
	}
	wait_for_waiters($standby, 20);
	$standby->stop('immediate');
	my @states = map { ($_->results)[0]{state} } @sessions;

	is(scalar(grep { /^(57P0[0-9]|08006)$/ } @states),
		20, "round $round: sessions end with the server");
	$token = $write_next->($primary);
	$standby->start;
	is(read_at($standby, $read, token => $token, max_wait => -1),
		$value, '... and after its start reads are fresh');
	is(read_at($standby, $read, level => 'strong', max_wait => -1),
		$value, '... at level strong, too');
	is($standby->safe_psql('postgres', 'SELECT waiting_sessions FROM tcs.status'),
		'0', '... with nobody left in the queue');
}

# One session is killed: the server starts anew with all knowledge unknown.
my $victim = TcsWire->new($standby);

pause_replay($standby);
$token = $write_next->($primary);
$victim->ok_query("SET tcs.max_wait = -1; SET tcs.session_token = '$token'");
$victim->simple($read)->flush;
wait_for_waiters($standby, 1);
$standby->append_conf('postgresql.conf', 'restart_after_crash = on');
$standby->reload;
$standby->poll_query_until('postgres', q{SELECT current_setting('restart_after_crash') = 'on'});
$log = log_position($standby);
kill('KILL', $victim->pid);
$standby->wait_for_log(qr/database system is ready to accept read-only connections/, $log);
$standby->poll_query_until('postgres', 'SELECT true');
is(read_at($standby, $read, token => $token, max_wait => -1),
	$value, 'a waiting session is killed: the server comes back, reads are fresh');
is(read_at($standby, $read, level => 'strong', max_wait => -1),
	$value, '... at level strong, too');
is($standby->safe_psql('postgres', 'SELECT waiting_sessions FROM tcs.status'),
	'0', '... with nobody left in the queue');

done_testing();

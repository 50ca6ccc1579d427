# test/t/040_waits.pl
#
# How waits end: by cancel, terminate, timeouts, a client that went away,
# tcs.enabled, shutdown and promotion, at once and with nothing left in shared
# memory (tcs.status counts no session any more, and the next wait works).
# Then many of them: 500 sessions that wait at once, first in autocommit, then
# inside of blocks, are all served by one commit; 100 are let go by
# tcs.enabled; DROP EXTENSION is no concern of theirs.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;
use TcsWrites;

my $crowd = 500;

my ($primary, $standby, $other) = new_cluster(
	standbys => 2,
	conf => "max_connections = " . ($crowd + 50) . "\n");
my $major = server_version($primary);
my $read = 'SELECT v FROM t';

$primary->safe_psql('postgres',
	q{CREATE TABLE t (v int); INSERT INTO t VALUES (0); CREATE TABLE u (a int)});
$primary->safe_psql('postgres', 'CREATE DATABASE dropped');
$primary->safe_psql('dropped',
	q{CREATE EXTENSION tcs; CREATE TABLE t (v int); INSERT INTO t VALUES (0)});
wait_for_replay($primary, $_) foreach ($standby, $other);
wait_for_answer($_) foreach ($standby, $other);

# Looks at the standbys, beside what is going on.
my $look = TcsWire->new($standby, options => '-c tcs.read_level=eventual');
my $value = 0;

# The next write.
my $write_next = counted_write(\$value, 'UPDATE t SET v = %d');

# A session that waits for as long as it takes.
sub patient_session
{
	my ($node, %opt) = @_;
	my $session = TcsWire->new($node, %opt);

	$session->ok_query('SET tcs.max_wait = -1');
	return $session;
}

sub nobody_waits
{
	my ($what, $node) = @_;

	ok( ($node // $standby)
		->poll_query_until('postgres', 'SELECT waiting_sessions = 0 FROM tcs.status'),
		"$what: nobody is left in the queue");
	return;
}

# Sends the read in a session that must wait for it, and returns when it does.
sub send_and_wait
{
	my ($session, $sql, $node) = @_;

	$session->simple($sql)->flush;
	wait_for_waiters($node // $standby, 1);
	return;
}


##
## One wait at a time, replay paused
##

pause_replay($standby);
my $token = $write_next->($primary);
my $session = patient_session($standby);

# Without tcs it would be stale.
is($session->ok_query("SET tcs.read_level = eventual; $read"), '0', 'the read is stale');
$session->ok_query("SET tcs.read_level = session; SET tcs.session_token = '$token'");

# wait events
send_and_wait($session, $read);
my $event = $look->ok_query(
	'SELECT wait_event_type, wait_event FROM pg_stat_activity WHERE pid = ' . $session->pid);

if ($major >= 17)
{
	# 19 has a queue of its own, with a name of its own
	like($event, qr/^(Extension\|TcsReplay|IPC\|WaitForWalReplay)$/,
		'the wait has a name in pg_stat_activity');
}
else
{
	is($event, 'Extension|Extension', 'the wait can be seen in pg_stat_activity');
}
is( $look->ok_query(
		'SELECT backend_xmin IS NULL, (SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid'
		  . q{ AND locktype = 'relation') FROM pg_stat_activity a WHERE pid = }
		  . $session->pid),
	't|0',
	'it holds neither a snapshot nor a lock of a table');

# pg_cancel_backend
$look->ok_query('SELECT pg_cancel_backend(' . $session->pid . ')');
my ($result) = $session->results;

is($result->{state}, '57014', 'cancel ends a wait');
is($session->status, 'I', '... of an autocommit statement');
nobody_waits('cancel');
is($session->ok_query("SET tcs.read_level = eventual; $read"), '0', '... the session goes on');
$session->ok_query('SET tcs.read_level = session');

# ... inside of a block, below a savepoint
$session->ok_query("SET tcs.session_token = ''");
$session->ok_query("BEGIN; SAVEPOINT a; SET tcs.session_token = '$token'");
send_and_wait($session, $read);
$look->ok_query('SELECT pg_cancel_backend(' . $session->pid . ')');
($result) = $session->results;
is($result->{state} . $session->status, '57014E', 'cancel in a block');
nobody_waits('cancel in a block');
is($session->ok_query("ROLLBACK TO a; $read"), '0',
	'... after ROLLBACK TO the token that was not there is forgotten');
$session->ok_query('COMMIT');

# tcs.wait_for(), a cursor, EXECUTE
foreach my $sql (
	"CALL tcs.wait_for('$token', '1 h')",
	"DECLARE c CURSOR WITH HOLD FOR $read",
	"EXPLAIN ANALYZE $read",
	"COPY t TO STDOUT")
{
	$session->ok_query("SET tcs.session_token = '$token'");
	send_and_wait($session, $sql);
	$look->ok_query('SELECT pg_cancel_backend(' . $session->pid . ')');
	($result) = $session->results;
	is($result->{state}, '57014', "cancel of: $sql" =~ s/'.*'/.../r);
	nobody_waits('... then');
}

# statement_timeout
$session->ok_query("SET statement_timeout = '50ms'");
($result) = $session->query($read);
is($result->{state}, '57014', 'statement_timeout ends a wait');
like($result->{error}{M}, qr/statement timeout/, '... and is named');
nobody_waits('statement_timeout');

# A wait for replay is no wait for a lock, and its session is not idle.
my $unhurried =
  patient_session($standby, options => '-c lock_timeout=1 -c idle_in_transaction_session_timeout=60000');

$unhurried->ok_query("SET tcs.session_token = '$token'");
send_and_wait($unhurried, $read);
$session->ok_query('SET statement_timeout = 200');
($result) = $session->query($read);
is($result->{state}, '57014', 'some time passes');
resume_replay($standby);
($result) = $unhurried->results;
is(TcsWire::describe_result($result), $value, 'lock_timeout does not end a wait for replay');
$unhurried->disconnect;

# idle_session_timeout counts from the end of the wait
pause_replay($standby);
$token = $write_next->($primary);
$session->ok_query("SET statement_timeout = 0; SET tcs.session_token = '$token'");
my $idle = patient_session($standby);

$idle->ok_query("SET tcs.session_token = '$token'");
$idle->simple("SET idle_session_timeout = 10")->simple($read)->flush;
wait_for_waiters($standby, 1);
resume_replay($standby);
# the answer to SET may be the last thing that is heard of it
my @answers = ($idle->results, $idle->results);

is( join(' ', map { $_->{state} } @answers) =~ /^00000 (00000|57P05)/ ? 1 : 0,
	1, 'idle_session_timeout ends no wait, if the session was not idle before it');
nobody_waits('idle_session_timeout');

# transaction_timeout
SKIP:
{
	skip 'transaction_timeout exists from 17 on', 3 if $major < 17;

	pause_replay($standby);
	$token = $write_next->($primary);
	my $limited = patient_session($standby);

	$limited->ok_query("SET tcs.session_token = '$token'; SET transaction_timeout = 100");
	($result) = $limited->query($read);
	is($result->{state}, '25P04', 'transaction_timeout ends a wait');
	nobody_waits('transaction_timeout');
	resume_replay($standby);
	wait_for_replay($primary, $standby);
	pass('replay goes on');
}

# pg_terminate_backend
pause_replay($standby);
$token = $write_next->($primary);
my $victim = patient_session($standby);

$victim->ok_query("SET tcs.session_token = '$token'");
send_and_wait($victim, $read);
$look->ok_query('SELECT pg_terminate_backend(' . $victim->pid . ')');
($result) = $victim->results;
is($result->{state}, '57P01', 'terminate ends a wait');
nobody_waits('terminate');

# ... in a block that holds something
$victim = patient_session($standby);
$victim->ok_query("BEGIN; $read; SET LOCAL tcs.session_token = '$token'");
send_and_wait($victim, $read);
$look->ok_query('SELECT pg_terminate_backend(' . $victim->pid . ')');
($result) = $victim->results;
is($result->{state}, '57P01', 'terminate in a block');
nobody_waits('terminate in a block');

# a client that goes away
$victim = patient_session($standby, options => '-c client_connection_check_interval=20');
$victim->ok_query("SET tcs.session_token = '$token'");
send_and_wait($victim, $read);
close($victim->{socket});
nobody_waits('the client went away');

# The place in the queue of those sessions is used again.
my @again = map { patient_session($standby) } 1 .. 5;

foreach my $session (@again)
{
	$session->ok_query("SET tcs.session_token = '$token'");
	$session->simple($read)->flush;
}
wait_for_waiters($standby, 5);
resume_replay($standby);
is_deeply(
	[ map { TcsWire::describe_result($_->results) } @again ],
	[ ($value) x 5 ],
	'sessions that come later wait and are served');
nobody_waits('then');
$_->disconnect foreach @again, $session;


##
## A strong read waits for the primary's answer
##

# Replay must be at rest, so that the answer alone is missing.
wait_for_replay($primary, $standby);
my $asker = $primary->safe_psql('postgres', q{SELECT pid FROM tcs_internal.askers()
	WHERE application_name = 'standby1'});

like($asker, qr/^\d+$/, 'the primary knows who asks');
kill('STOP', $asker);
my $strong = patient_session($standby);

$strong->ok_query('SET tcs.read_level = strong');
send_and_wait($strong, $read);
$event = $look->ok_query(
	'SELECT wait_event FROM pg_stat_activity WHERE pid = ' . $strong->pid);
is($event, $major >= 17 ? 'TcsReadIndex' : 'Extension',
	'the wait for an answer can be seen');
$look->ok_query('SELECT pg_cancel_backend(' . $strong->pid . ')');
($result) = $strong->results;
is($result->{state}, '57014', 'cancel ends the wait for an answer');
nobody_waits('cancel of a strong read');
$strong->simple($read)->flush;
wait_for_waiters($standby, 1);
kill('CONT', $asker);
($result) = $strong->results;
is(TcsWire::describe_result($result), $value, 'the answer serves the next one');
nobody_waits('the answer came');
$strong->disconnect;


##
## A crowd
##

my @crowd = map { TcsWire->new($standby) } 1 .. $crowd;

$_->simple('SET tcs.max_wait = -1') foreach @crowd;
$_->flush foreach @crowd;
$_->results foreach @crowd;

# how many of the crowd got what
sub crowd_answers
{
	my %count;

	foreach my $session (@crowd)
	{
		my @results = $session->results;

		$count{ join(' ', map { TcsWire::describe_result($_) } @results) }++;
	}
	return \%count;
}

# autocommit
pause_replay($standby);
$token = $write_next->($primary);
foreach my $session (@crowd)
{
	$session->simple("SET tcs.session_token = '$token'")->simple($read)->flush;
}
wait_for_waiters($standby, $crowd);
is( $look->ok_query(
		q{SELECT count(*) FROM pg_stat_activity
		  WHERE backend_type = 'client backend' AND backend_xmin IS NOT NULL AND pid <> pg_backend_pid()}),
	'0',
	"$crowd sessions wait, none of them with a snapshot");
resume_replay($standby);
$_->results foreach @crowd;    # of SET
is_deeply(crowd_answers(), { $value => $crowd }, "one commit serves $crowd sessions");
nobody_waits("$crowd sessions");

# inside of blocks, that hold the lock of a table and a savepoint
foreach my $session (@crowd)
{
	$session->simple("BEGIN; SELECT count(*) FROM u; SAVEPOINT a")->flush;
}
crowd_answers();
pause_replay($standby);
$token = $write_next->($primary);
foreach my $session (@crowd)
{
	$session->simple("SET LOCAL tcs.session_token = '$token'")->simple($read)->flush;
}
wait_for_waiters($standby, $crowd);
resume_replay($standby);
$_->results foreach @crowd;    # of SET LOCAL
is_deeply(crowd_answers(), { $value => $crowd }, "... inside of blocks, too");
nobody_waits("$crowd sessions in blocks");
$_->simple('COMMIT')->flush foreach @crowd;
crowd_answers();

# at level strong, which is one question for all
$_->simple(q{SET tcs.session_token = ''})->simple('SET tcs.read_level = strong')->flush
  foreach @crowd;
$_->results foreach @crowd;
crowd_answers();
pause_replay($standby);
$write_next->($primary);
$_->simple($read)->flush foreach @crowd;
wait_for_waiters($standby, $crowd);
resume_replay($standby);
is_deeply(crowd_answers(), { $value => $crowd }, '... and at level strong');
nobody_waits("$crowd strong reads");
$_->disconnect foreach splice(@crowd, 100);


##
## tcs.enabled
##

# 100 of all kinds
pause_replay($standby);
my $before = $value;

$token = $write_next->($primary);
foreach my $i (0 .. 99)
{
	my $session = $crowd[$i];

	$session->ok_query(q{SET tcs.read_level = session});
	if ($i < 40)
	{
		$session->ok_query("SET tcs.session_token = '$token'");
	}
	elsif ($i < 70)
	{
		$session->ok_query("BEGIN; SELECT count(*) FROM u; SET tcs.session_token = '$token'");
	}
	else
	{
		$session->ok_query('SET tcs.read_level = strong');
	}
}
$_->simple($read)->flush foreach @crowd;
wait_for_waiters($standby, 100);
$standby->safe_psql('postgres', 'ALTER SYSTEM SET tcs.enabled = off');
$standby->reload;
is_deeply(crowd_answers(), { $before => 100 }, 'tcs.enabled = off lets 100 sessions go');
nobody_waits('tcs.enabled = off');
$_->simple($read)->flush foreach @crowd;
is_deeply(crowd_answers(), { $before => 100 }, '... whose next reads do not wait either');
is( read_at($standby, $read, level => 'strong', max_wait => -1),
	$before, '... nor do those of new sessions');
$_->simple('COMMIT')->flush foreach @crowd;
crowd_answers();

$standby->safe_psql('postgres', 'ALTER SYSTEM RESET tcs.enabled');
$standby->reload;
$crowd[0]->poll('SELECT pg_catalog.current_setting($$tcs.enabled$$) = $$on$$');
send_and_wait($crowd[0], $read);
pass('turned on again, a read waits');
resume_replay($standby);
is(TcsWire::describe_result($crowd[0]->results), $value, '... and is served');
$_->disconnect foreach @crowd;


##
## DROP EXTENSION
##

my @database = (dbname => 'dropped');
my $reader = patient_session($standby, @database);
my $caller = patient_session($standby, @database);

wait_for_replay($primary, $standby);
pause_replay($standby);
$primary->safe_psql('dropped', 'DROP EXTENSION tcs');
$token = write_token($primary, 'UPDATE t SET v = 1', @database);
$reader->ok_query("SET tcs.session_token = '$token'");
$reader->simple($read)->flush;
$caller->simple("CALL tcs.wait_for('$token', '1 h')")->flush;
wait_for_waiters($standby, 2);
resume_replay($standby);
is(TcsWire::describe_result($reader->results), '1',
	'a read is served although DROP EXTENSION was replayed during its wait');
is(TcsWire::describe_result($caller->results), '', 'so is tcs.wait_for()');
pause_replay($standby);
$token = write_token($primary, 'UPDATE t SET v = 2', @database);
$reader->ok_query("SET tcs.session_token = '$token'");
$reader->simple($read)->flush;
wait_for_waiters($standby, 1);
is( psql_err($standby, $read, token => $token, max_wait => 0, @database),
	'TC001', 'levels go on without the extension');
resume_replay($standby);
is(TcsWire::describe_result($reader->results), '2', 'so does waiting');
is( psql_err($standby, 'SELECT tcs.session_token()', @database),
	'42883', 'though its functions are gone');
$_->disconnect foreach $reader, $caller, $look;


##
## Shutdown
##

pause_replay($other);
$token = $write_next->($primary);
my @waiting = map { patient_session($other) } 1 .. 3;

$waiting[0]->ok_query("SET tcs.session_token = '$token'");
$waiting[1]->ok_query("BEGIN; SELECT count(*) FROM u; SET tcs.session_token = '$token'");
$waiting[2]->ok_query('SET tcs.read_level = strong');
$_->simple($read)->flush foreach @waiting;
wait_for_waiters($other, 3);
$other->stop('fast');
is_deeply(
	[ map { ($_->results)[0]{state} } @waiting ],
	[ ('57P01') x 3 ],
	'a shutdown ends waits');
$other->start;
wait_for_replay($primary, $other);
is(read_at($other, $read, token => $token), $value, 'after the start all is well');
nobody_waits('shutdown', $other);


##
## Promotion
##

# What has arrived is replayed before the end of recovery, what has not is on
# no timeline that the new primary has.
wait_for_answer($other);
pause_replay($other);
my $arrived = $write_next->($primary);
my $arrived_value = $value;

$other->poll_query_until('postgres',
	"SELECT pg_last_wal_receive_lsn() >= '" . current_lsn($primary) . "'")
  or die 'the WAL did not arrive';

# Nobody starts another WAL receiver while replay is paused, nor after that.  With
# nobody set up to be asked for an answer, it would not be waited for.
$other->append_conf('postgresql.conf',
	qq{primary_conninfo = ''\ntcs.primary_conninfo = 'host=127.0.0.1 port=1'});
$other->reload;
kill('TERM', $other->safe_psql('postgres', 'SELECT pid FROM pg_stat_wal_receiver'));
$other->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_wal_receiver')
  or die 'the WAL receiver did not end';
my $not_arrived = $write_next->($primary);

@waiting = map { patient_session($other) } 1 .. 6;
$waiting[0]->ok_query("SET tcs.session_token = '$arrived'");
$waiting[1]->ok_query("BEGIN; SELECT count(*) FROM u; SET tcs.session_token = '$arrived'");
$waiting[2]->ok_query("SET tcs.session_token = '$not_arrived'");
$waiting[3]->ok_query("BEGIN; SELECT count(*) FROM u; SET tcs.session_token = '$not_arrived'");
$waiting[4]->ok_query('SET tcs.read_level = strong');
$waiting[5]->ok_query("SET tcs.read_level = bounded; SET tcs.max_staleness = 0");
$_->simple($read)->flush foreach @waiting;
wait_for_waiters($other, 6);
$other->promote;

my @ends = map { TcsWire::describe_result($_->results) } @waiting;

is($ends[0], $arrived_value, 'promotion: what had arrived is served');
is($ends[1], $arrived_value, '... in a block, too');
like($ends[2], qr/^TC003/, 'what had not arrived is lost, and said to be');
like($ends[3], qr/^TC003/, '... in a block, too');
# nobody can say any more what the former primary had acknowledged
like($ends[4], qr/^TC004/, 'strong does not know, without an answer');
like($ends[5], qr/^TC004/, 'nor does bounded');
is(read_at($other, $read, level => 'strong'), $arrived_value, 'and later');
is(psql_err($other, $read, token => $not_arrived), 'TC003', '... as is said');
is( $other->safe_psql('postgres', 'SELECT role, worker_state FROM tcs.status'),
	'primary|not_needed',
	'the new primary knows what it is');
is( $other->safe_psql(
		'postgres',
		q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tcs worker'}),
	'0',
	'and has no worker');

done_testing();

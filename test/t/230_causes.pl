# test/t/230_causes.pl
#
# Why a standby is behind, and whether waiting helps: one that gets its WAL from
# an archive alone, one that stops at a recovery target, one that is paused or
# delayed, or whose WAL receiver hangs.  The cause, where it can be known, must be
# in the error and in tcs.status.  Where waiting cannot help, a read with
# tcs.max_wait = -1 must come back at all: refused, or served at the weaker
# level that tcs.fallback allows; where it can, it must be waited for.

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

my $read = 'SELECT max(v) FROM t';
my $value = 0;
my @forever = (max_wait => -1);

my $primary = new_primary('primary', init => { has_archiving => 1 });

$primary->safe_psql('postgres', 'CREATE TABLE t (v int)');

# The next write.
my $write_next = counted_write(\$value, 'INSERT INTO t VALUES (%d)');

sub position_of
{
	my ($token) = @_;

	return $primary->safe_psql('postgres', "SELECT written_lsn FROM tcs.token_info('$token')");
}

# A node that takes WAL from the archive of the primary.
sub new_restored
{
	my ($name, $standby, $conf) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init_from_backup($primary, 'base', has_restoring => 1, standby => $standby);
	$node->append_conf('postgresql.conf',
		"shared_preload_libraries = 'tcs'\nwal_retrieve_retry_interval = '100ms'\n$conf\n");
	$node->start;
	return $node;
}

sub ask_primary
{
	my ($node) = @_;

	$node->append_conf('postgresql.conf',
		sprintf(q{tcs.primary_conninfo = '%s dbname=postgres'}, $primary->connstr));
	$node->reload;
	wait_for_answer_of($node);
	return;
}

# An answer, whether replayed or not.
sub wait_for_answer_of
{
	my ($node) = @_;

	$node->poll_query_until('postgres',
		q{SELECT link_state = 'up' AND primary_lsn IS NOT NULL FROM tcs.status})
	  or die 'no answer';
	return;
}

sub replay_says
{
	my ($node, $pattern, $what) = @_;

	like($node->safe_psql('postgres', 'SELECT replay_detail FROM tcs.status'), $pattern,
		"$what: tcs.status has the cause");
	return;
}

sub refused_because
{
	my ($node, $what, $state, $pattern, $sql, @opt) = @_;
	my ($got, $err) = psql_err($node, $sql, @opt);

	is($got, $state, $what);
	like($err, $pattern, '... and why');
	return;
}

# The primary knows of more: behind, with the cause.
sub not_fresh
{
	my ($node, $what, $pattern) = @_;

	$node->poll_query_until('postgres', 'SELECT primary_lsn > replay_lsn FROM tcs.status')
	  or die 'no answer beyond what is replayed';
	refused_because($node, "$what: $_ is behind", 'TC001', $pattern, $read,
		level => $_, max_staleness => 0, max_wait => '300ms', fallback => 'error')
	  foreach ('strong', 'bounded');
	return;
}

# Reads that wait, of what a token names and of what the primary has.
sub patient
{
	my ($node, $token) = @_;
	my @reads = (
		start_read($node, $read, token => $token, @forever),
		start_read($node, $read, level => 'strong', @forever));

	wait_for_waiters($node, 2);
	return @reads;
}

my $kept = $write_next->($primary);

$primary->backup('base');


##
## An archive alone
##

{
	my $standby = new_restored('archive', 1, '');
	my $alone = qr/gets WAL from an archive alone/;
	my $unset = qr/neither tcs.primary_conninfo nor primary_conninfo is set/;

	is(read_at($standby, $read, token => $kept, @forever), $value, 'archive alone: what is there is served');
	$standby->poll_query_until('postgres',
		q{SELECT link_state = 'down' AND link_detail ~ 'neither' FROM tcs.status})
	  or die 'the worker has not come to know';
	replay_says($standby, $alone, 'archive alone');

	# Nobody can say how fresh it is, however long is waited.
	refused_because($standby, "archive alone: $_ is refused at once", 'TC004', $unset, $read,
		level => $_, max_staleness => '1ms', @forever)
	  foreach ('strong', 'bounded', 'linearizable');
	refused_because($standby, '... with a bound in bytes, too', 'TC004', $unset, $read,
		level => 'bounded', max_staleness => '1h', max_lag => '1MB', @forever);
	refused_because($standby, '... in REPEATABLE READ, too', 'TC004', $unset,
		"BEGIN ISOLATION LEVEL REPEATABLE READ; $read;", level => 'strong', @forever);
	my ($state, $err, $out) =
	  psql_err($standby, $read, level => 'strong', fallback => 'session', @forever);

	is("$state $out", "00000 $value", '... or served at a weaker level');
	like($err, qr/TC004: read served at level "session" instead of "strong"/, '... with a warning');

	# The archive may get more at any moment.
	my $token = $write_next->($primary);

	refused_because($standby, 'what is not archived yet is not there', 'TC001', $alone, $read,
		token => $token, max_wait => '50ms');
	my $waiting = start_read($standby, $read, token => $token, @forever);

	wait_for_waiters($standby);
	$primary->safe_psql('postgres', 'SELECT pg_switch_wal()');
	is(finish_read($waiting), $value, '... and is waited for');

	# With a primary to be asked, freshness is known.
	ask_primary($standby);
	$write_next->($primary);
	refused_because($standby, 'the primary can be asked: strong is behind', 'TC001', $alone, $read,
		level => 'strong', max_wait => '300ms');
	$waiting = start_read($standby, $read, level => 'strong', @forever);
	wait_for_waiters($standby);
	$primary->safe_psql('postgres', 'SELECT pg_switch_wal()');
	is(finish_read($waiting), $value, '... until the archive has it');
	$standby->stop;
}


##
## A recovery target
##

{
	my $last = $write_next->($primary);
	my $last_value = $value;
	my $beyond = $write_next->($primary);

	$primary->safe_psql('postgres', 'SELECT pg_switch_wal()');
	my $node = new_restored('target', 0,
		sprintf(q{recovery_target_lsn = '%s'
			recovery_target_inclusive = off
			recovery_target_action = pause}, position_of($last)));
	my $ended = qr/Replay is paused at its recovery target/;

	$node->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'});
	replay_says($node, $ended, 'recovery target');
	is(read_at($node, $read, token => $last, max_wait => 0), $last_value, 'what is before it is served');
	refused_because($node, 'what is beyond it is refused at once', 'TC001', $ended, $read,
		token => $beyond, @forever);
	refused_because($node, '... by tcs.wait_for()', 'TC001', $ended, "CALL tcs.wait_for('$beyond', '1 h')");
	refused_because($node, '... in a block', 'TC001', $ended, "BEGIN;\n$read", token => $beyond, @forever);
	refused_because($node, 'strong has nobody to ask', 'TC004', qr/neither/, $read, level => 'strong', @forever);
	ask_primary($node);
	refused_because($node, '... and is behind for good', 'TC001', $ended, $read, level => 'strong', @forever);
	my ($state, $err, $out) =
	  psql_err($node, $read, token => $beyond, fallback => 'eventual', @forever);

	is("$state $out", "00000 $last_value", '... or served at a weaker level');
	resume_replay($node);
	$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
	is(psql_err($node, $read, token => $beyond, @forever), 'TC003', 'resumed, it is a primary without it');
	$node->stop;
}


##
## Paused, delayed: it may go on at any moment
##

{
	my $standby = new_standby($primary, 'standby');

	pause_replay($standby);
	my $token = $write_next->($primary);

	replay_says($standby, qr/^Replay is paused \(by pg_wal_replay_pause/, 'paused');
	refused_because($standby, 'paused: behind', 'TC001', qr/Replay is paused \(by pg_wal_replay_pause/, $read,
		token => $token, max_wait => '10ms');
	not_fresh($standby, 'paused', qr/Replay is paused \(by pg_wal_replay_pause/);
	my @waiting = patient($standby, $token);

	resume_replay($standby);
	is(finish_read($_), $value, '... and waited for') foreach @waiting;

	$standby->append_conf('postgresql.conf', q{recovery_min_apply_delay = '1h'});
	$standby->reload;
	$standby->poll_query_until('postgres', q{SELECT current_setting('recovery_min_apply_delay') = '1h'});
	$token = $write_next->($primary);
	replay_says($standby, qr/^Replay is delayed by recovery_min_apply_delay/, 'delayed');
	refused_because($standby, 'delayed: behind', 'TC001', qr/delayed by recovery_min_apply_delay/, $read,
		token => $token, max_wait => '10ms');
	not_fresh($standby, 'delayed', qr/delayed by recovery_min_apply_delay/);
	@waiting = patient($standby, $token);
	$standby->append_conf('postgresql.conf', q{recovery_min_apply_delay = 0});
	$standby->reload;
	is(finish_read($_), $value, '... and waited for') foreach @waiting;

	# The WAL receiver is there, and gets nothing.
	my $receiver = $standby->safe_psql('postgres', 'SELECT pid FROM pg_stat_wal_receiver');

	kill('STOP', $receiver);
	$token = $write_next->($primary);
	refused_because($standby, 'a WAL receiver that hangs: behind', 'TC001', qr/Needed .*, reached /, $read,
		token => $token, max_wait => '10ms');
	not_fresh($standby, 'a WAL receiver that hangs', qr/Needed .*, reached /);
	@waiting = patient($standby, $token);
	kill('CONT', $receiver);
	is(finish_read($_), $value, '... and waited for') foreach @waiting;

	# WAL comes, and the startup process does not go on.
	my $startup = $standby->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'});

	kill('STOP', $startup);
	$write_next->($primary);
	ok($standby->poll_query_until('postgres', q{SELECT replay_state = 'not_advancing' FROM tcs.status}),
		'a startup process that hangs: tcs.status says that replay stands still');
	kill('CONT', $startup);
	ok($standby->poll_query_until('postgres', q{SELECT replay_state = 'replaying' FROM tcs.status}), '... until it goes on');
}

done_testing();

# test/t/330_crash.pl
#
# Crashes of a standby, of the primary and of the worker, in the middle of
# reads.  What a standby knew of its freshness is gone with its shared memory:
# afterwards it must say that it does not know, until the primary has answered,
# and must not take a standby that cannot ask for a fresh one.  What the primary
# had acknowledged before it crashed must be in its first answers after that.
# What a session's token names needs no answer, before or after.

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

my ($primary, $standby) = new_pair(conf => "restart_after_crash = on\n");

$primary->safe_psql('postgres', 'CREATE TABLE t (v int)');
wait_for_replay($primary, $standby);

# The next write.
my $write_next = counted_write(\$value, 'INSERT INTO t VALUES (%d)');

# A backend dies, and the server starts all its processes anew.
sub crash
{
	my ($node) = @_;
	my $victim = TcsWire->new($node);
	my $log = log_position($node);

	kill('KILL', $victim->pid);
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $log);
	$node->wait_for_log(qr/database system is ready to accept (?:read-only )?connections/, $log);
	$node->poll_query_until('postgres', 'SELECT true');
	return;
}

# The standby knows nothing, and a token is all that can be relied on.
sub freshness_unknown
{
	my ($what, $reached, $not_reached) = @_;

	is( $standby->safe_psql('postgres',
			'SELECT staleness IS NULL, last_answer_age IS NULL, bound_state FROM tcs.status'),
		't|t|unknown', "$what: nothing is known");
	is($standby->safe_psql('postgres', "SELECT tcs.can_serve('bounded', '1 h'), tcs.can_serve('strong')"),
		'f|f', '... tcs.can_serve() says no');
	foreach my $level ('strong', 'bounded')
	{
		is( psql_err($standby, $read,
				level => $level, max_staleness => '1h', max_wait => '100ms'),
			'TC004', "... $level is refused");
	}
	is(read_at($standby, $read, token => $reached, @forever), $value - 1,
		'... what a token names is served');
	is(psql_err($standby, $read, token => $not_reached, max_wait => '50ms'),
		'TC001', '... or known to be missing');
	return;
}


##
## The standby, while the primary is dead
##

my $reached = $write_next->($primary);

is(read_at($standby, $read, level => 'strong', @forever), $value, 'before');

# A write that the standby will get later.
$standby->append_conf('postgresql.conf',
	sprintf(qq{primary_conninfo = ''\ntcs.primary_conninfo = '%s dbname=postgres'},
		$primary->connstr));
$standby->reload;
$standby->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_wal_receiver')
  or die 'the WAL receiver did not end';
my $later = $write_next->($primary);

$standby->poll_query_until('postgres', 'SELECT primary_lsn > replay_lsn FROM tcs.status')
  or die 'no answer beyond what is replayed';
$primary->stop('immediate');
is(read_at($standby, $read, level => 'bounded', max_staleness => '1h', max_wait => 0),
	$value - 1, 'the primary is dead: its last answers count for what they are');
is(read_at($standby, $read, token => $reached, max_wait => 0), $value - 1, 'so does a token');

my $waiting = TcsWire->new($standby, options => '-c tcs.max_wait=-1 -c tcs.read_level=strong');

$waiting->simple($read)->flush;
wait_for_waiters($standby);
crash($standby);
like(($waiting->results)[0]{state}, qr/^(?:57P0[0-9]|08006)$/, 'a crash ends waits');
freshness_unknown('a crash of the standby', $reached, $later);
is($standby->safe_psql('postgres', 'SELECT waiting_sessions FROM tcs.status'),
	'0', '... nobody is left in the queue');

# The whole server, killed.
$standby->stop('immediate');
$standby->start;
freshness_unknown('a restart of the standby', $reached, $later);

# What answers there were are of no use to a worker that comes after.
my $worker = $standby->safe_psql('postgres', 'SELECT worker_pid FROM tcs.status');

kill('KILL', $worker);
$standby->poll_query_until('postgres',
	"SELECT worker_pid <> $worker FROM tcs.status WHERE worker_pid IS NOT NULL")
  or die 'no other worker';
freshness_unknown('a crash of the worker', $reached, $later);


##
## The primary comes back
##

my $strong = start_read($standby, $read, level => 'strong', @forever);
my $patient = start_read($standby, $read, token => $later, @forever);

wait_for_waiters($standby, 2);
$standby->enable_streaming($primary);
$standby->append_conf('postgresql.conf', q{tcs.primary_conninfo = ''});
$standby->reload;
$primary->start;
is(finish_read($strong), $value, 'the primary is back: a strong read that waited for it');
is(finish_read($patient), $value, '... and one that waited for what had not arrived');


##
## The primary crashes: what it had acknowledged is in its next answers
##

foreach my $try (1 .. 3)
{
	pause_replay($standby);
	$write_next->($primary);
	my $before = TcsWire->new($standby, options => '-c tcs.max_wait=-1 -c tcs.read_level=strong');

	$before->simple($read)->flush;
	wait_for_waiters($standby);
	crash($primary);

	# no commit since, of which the primary could know
	$standby->poll_query_until('postgres',
		q{SELECT link_state = 'up' AND last_answer_age < make_interval(secs => 1) FROM tcs.status})
	  or die 'no answer after the crash';
	my $after = TcsWire->new($standby, options => '-c tcs.max_wait=-1 -c tcs.read_level=strong');

	$after->simple($read)->flush;
	wait_for_waiters($standby, 2);
	resume_replay($standby);
	is(TcsWire::describe_result($_->results), $value, "a crash of the primary ($try): strong")
	  foreach ($before, $after);
	$_->disconnect foreach ($before, $after);
}


##
## The worker, again and again, while strong reads come
##

{
	my @sessions = map { TcsWire->new($standby, options => '-c tcs.max_wait=-1 -c tcs.read_level=strong') } 1 .. 4;

	foreach my $round (1 .. 3)
	{
		my $pid = $standby->safe_psql('postgres', 'SELECT worker_pid FROM tcs.status');

		$write_next->($primary);
		kill('TERM', $pid);
		$_->simple($read)->flush foreach @sessions;
		is_deeply([ map { TcsWire::describe_result($_->results) } @sessions ],
			[ ($value) x 4 ], "strong reads while the worker ends ($round)");
		$standby->poll_query_until('postgres',
			"SELECT worker_pid <> $pid FROM tcs.status WHERE worker_pid IS NOT NULL");
	}
}

done_testing();

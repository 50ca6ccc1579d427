# test/t/215_worker_yields.pl
#
# tcs yields to replication.  The worker of a standby holds one of max_wal_senders
# on the primary.  With just enough of them for streaming, every standby must
# stream: one that comes later, where workers hold what it needs, and all of them
# after a restart of the primary, when everybody connects at once.  Room is kept for
# one that is away and has a slot, so that it is not refused first.  tcs.status
# must say why the primary is not asked, strong must end with that reason, and
# workers must be back when there is room.  Who has not authenticated drives no
# worker away, unless a standby is kept out for long.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use IO::Socket::UNIX;
use lib "$FindBin::RealBin/../perl";
use TcsNodes;
use TcsTest;

my $primary = new_primary('primary', conf => "max_wal_senders = 10\nwal_level = logical\n");

$primary->safe_psql('postgres', 'CREATE TABLE t (v int); INSERT INTO t VALUES (0)');

# A standby is the same to its primary whether or not its worker likes to ask.
my @standbys = (
	new_standby($primary, 'standby1', conf => "tcs.probe_interval = 0\n"),
	new_standby($primary, 'standby2'));
my $read = 'SELECT v FROM t';
my $value = 0;
my $senders = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'};

sub set_senders
{
	my ($n) = @_;

	$primary->append_conf('postgresql.conf', "max_wal_senders = $n");
	$primary->restart;
	return;
}

# Standbys stream, and no worker holds what they need.
sub all_stream
{
	my ($what) = @_;

	ok( $primary->poll_query_until(
			'postgres',
			q{SELECT count(*) FILTER (WHERE state = 'streaming' AND application_name ~ '^standby') = 2
				FROM pg_stat_replication}),
		"$what: every standby streams");
	return;
}

sub all_have_yielded
{
	my ($what) = @_;

	foreach my $node (@standbys)
	{
		ok( $node->poll_query_until(
				'postgres',
				q{SELECT link_state = 'down' AND link_detail ~ 'raise max_wal_senders on the primary'
					FROM tcs.status}),
			"$what: " . $node->name . ' says why it does not ask');
		my ($state, $err) = psql_err($node, $read, level => 'strong', max_wait => '100ms');

		is($state, 'TC004', '... strong does not know');
		like($err, qr/max_wal_senders/, '... and says why');
		$value++;
		is( read_at($node, $read,
				token => write_token($primary, "UPDATE t SET v = $value"), max_wait => '60s'),
			$value, '... session reads on');
	}
	return;
}

# One standby is away, and the worker of the other one takes its place.
$standbys[1]->stop;
set_senders(2);
is(read_at($standbys[0], $read, level => 'strong', max_wait => -1), $value, 'the worker asks');
is($primary->safe_psql('postgres', $senders), 2, '... with the last connection');
my $log = log_position($standbys[0]);

$standbys[1]->start;
all_stream('a standby comes back');
all_have_yielded('a standby comes back');
is(scalar(() = log_since($standbys[0], $log) =~ /no usable answer.*gives way to replication/g),
	1, 'one line in the log says so');

$primary->restart;
all_stream('the primary was restarted');
all_have_yielded('the primary was restarted');

set_senders(10);
all_stream('room again');
foreach my $node (@standbys)
{
	is(read_at($node, $read, level => 'strong', max_wait => -1),
		$value, 'room again: ' . $node->name . ' asks');
}

# The worker follows the WAL receiver, and says what it waits for.
$primary->stop('fast');
foreach my $node (@standbys)
{
	ok( $node->poll_query_until(
			'postgres',
			q{SELECT link_state = 'down' AND link_detail ~ 'no WAL receiver streams' FROM tcs.status}),
		'no primary: ' . $node->name . ' says what it waits for');
}
$primary->start;
is(read_at($_, $read, level => 'strong', max_wait => -1), $value, 'the primary is back')
  foreach @standbys;

# A standby that is away and has a slot.  The other one's worker may hold what is
# left, but for that.
$standbys[1]->stop;
$primary->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('polled', 'test_decoding')});
set_senders(2);
is(read_at($standbys[0], $read, level => 'strong', max_wait => -1),
	$value, 'a logical slot, which SQL may read, needs no room');
is($primary->safe_psql('postgres', $senders), 2, '... the worker has the last connection');

$primary->safe_psql('postgres', q{SELECT pg_create_physical_replication_slot('away')});
ok( $standbys[0]->poll_query_until(
		'postgres',
		q{SELECT link_state = 'down' AND link_detail ~ 'no room for replication slot "away".*raise max_wal_senders'
			FROM tcs.status}),
	'a standby with a slot is away: the worker leaves before anybody was refused');
ok($primary->poll_query_until('postgres', $senders, 1), '... and there is room');
is((psql_err($standbys[0], $read, level => 'strong', max_wait => '100ms'))[0],
	'TC004', '... strong does not know');

$primary->safe_psql('postgres', q{SELECT pg_drop_replication_slot('away')});
$primary->restart;
is(read_at($standbys[0], $read, level => 'strong', max_wait => -1),
	$value, 'nobody is away any more: the worker asks');


##
## Connections that do not authenticate
##

# Opens replication connections that are asked for a password, and say none.  Returns
# those that have a place, and the number of those that were refused.
sub crowd
{
	my ($n) = @_;
	my $startup = pack('N', 196608) . "user\0nobody\0replication\x{00}1\0\0";
	my ($refused, @crowd) = (0);

	foreach (1 .. $n)
	{
		my $socket = IO::Socket::UNIX->new(Peer => $primary->host . '/.s.PGSQL.' . $primary->port)
		  or die "no connection: $!";
		my $answer = '';

		$socket->syswrite(pack('N', 4 + length $startup) . $startup);
		$socket->sysread($answer, 8000);
		$refused++ if $answer =~ /^E.*C53300/s;
		push @crowd, $socket if $answer =~ /^R/;
	}
	return ($refused, @crowd);
}

set_hba($primary, q{SELECT count(*) = 1 FROM pg_hba_file_rules WHERE user_name = '{nobody}'},
	'local replication nobody scram-sha-256', slurp_file($primary->data_dir . '/pg_hba.conf'));
$primary->append_conf('postgresql.conf', "authentication_timeout = '10min'");
set_senders(5);
is(read_at($standbys[0], $read, level => 'strong', max_wait => -1), $value, 'room for three more');
$log = log_position($standbys[0]);

my ($refused, @crowd) = crowd(5);

is(@crowd . " $refused", '3 2', 'who does not authenticate has the rest, and some are refused');
is(read_at($standbys[0], $read, level => 'strong', max_wait => -1), $value, '... the worker asks');
unlike(log_since($standbys[0], $log), qr/gives way/, '... and has not left');

# They stay, and keep a standby out together with the worker.
$standbys[1]->start;
link_says($standbys[0], 'down', 'raise max_wal_senders on the primary', 'a standby is kept out for long: the worker leaves');
all_stream('who does not authenticate stays');
$_->close foreach @crowd;
$primary->restart;
foreach my $node (@standbys)
{
	is(read_at($node, $read, level => 'strong', max_wait => -1), $value, 'they have gone: ' . $node->name . ' asks');
}

done_testing();

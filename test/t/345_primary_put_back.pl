# test/t/345_primary_put_back.pl
#
# A primary that is put back to an earlier state, by a snapshot of its storage or a
# copy of its data folder, stays on its timeline and has less WAL than its standbys.
# They do not take it for the primary that they had, whatever a restart makes them
# forget, until it has come past the WAL that they have.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use File::Copy qw(move);
use POSIX qw(mkfifo);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsNodes;
use TcsTest;

my @levels = qw(strong bounded);
my $read = 'SELECT v FROM t';
my $refused = q{link_state = 'refused' AND link_detail ~ 'has less WAL'};

# Nothing is written to the standbys' data files by chance, so that they begin to
# replay, after a crash, where they have made their last restartpoint.
my ($primary, $own, $plain, $held) = new_cluster(
	standbys => 3,
	conf => "bgwriter_lru_maxpages = 0\nmax_wal_size = '4GB'\nrestart_after_crash = on\n"
	  . "tcs.max_staleness = '1s'\nrecovery_prefetch = off\n");

sub ask
{
	my ($node, $conninfo) = @_;

	$node->append_conf('postgresql.conf', "tcs.primary_conninfo = '$conninfo'\n");
	$node->reload;
	return;
}

sub is_refused
{
	my ($node, $name) = @_;

	ok($node->poll_query_until('postgres', "SELECT $refused FROM tcs.status"),
		"$name: the answers are refused");
	# an answer from before is good for as long as the bound
	wait_for_status($node, q{coalesce(staleness > '1s', true)});
	foreach my $level (@levels)
	{
		my ($state, $message) = psql_err($node, $read, level => $level, max_wait => '100ms');

		is($state, 'TC004', "$name: $level does not know");
		like($message, qr/has less WAL/, '... and says why');
	}
	return;
}

$primary->safe_psql('postgres', q{CREATE TABLE t (v text); INSERT INTO t VALUES ('old')});
redirect_to($primary);
my $own_conninfo = $primary->connstr('postgres') =~ s/'//gr;
ask($_, $own_conninfo) foreach ($own, $held);
wait_for_answer($_) foreach ($own, $plain, $held);

$primary->safe_psql('postgres', 'CHECKPOINT');
foreach my $node ($own, $plain, $held)
{
	wait_for_replay($primary, $node);
	$node->safe_psql('postgres', 'CHECKPOINT');
}

# The state that it will be put back to.
my $folder = $primary->data_dir;

$primary->stop;
PostgreSQL::Test::RecursiveCopy::copypath($folder, "$folder-before");
chmod(0700, "$folder-before") or die "cannot change $folder-before: $!";
$primary->start;
wait_for_replay($primary, $_) foreach ($own, $plain, $held);

# It comes to the next segment, and some way into that.
$primary->safe_psql('postgres', q{
UPDATE t SET v = 'lost';
SELECT pg_switch_wal();
CREATE TABLE filler AS SELECT generate_series(1, 50000);
});
my $segment = $primary->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())');
my $lost = $primary->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
wait_for_replay($primary, $_) foreach ($own, $plain, $held);

# So it is when the startup process has no more WAL than that of the segment before.
my $hold = $held->basedir . '/hold';

mkfifo($hold, 0600) or die "cannot make $hold: $!";
$held->append_conf('postgresql.conf',
	qq{restore_command = '[ "%f" != $segment ] || [ ! -p "$hold" ] || timeout 180 cat "$hold" >/dev/null; false'\n});
$held->stop('immediate');
# a WAL receiver would put the WAL of the other state over what is here
$plain->stop;

# It is put back.
$primary->stop('immediate');
move($folder, "$folder-lost") or die "cannot move $folder: $!";
move("$folder-before", $folder) or die "cannot move $folder-before: $!";
$primary->start;
$primary->safe_psql('postgres', q{UPDATE t SET v = 'new'});


##
## What was replayed
##

is_refused($own, 'while the standby runs on');

# The primary comes to the segment in which its standbys are.  There a WAL receiver that
# is started now begins, so that it says nothing of the WAL that they had.  This one
# does not connect, and leaves in place what the standby has.
$own->append_conf('postgresql.conf', "primary_conninfo = 'host=127.0.0.1 port=1'");
$own->stop;
$primary->safe_psql('postgres', q{SELECT pg_switch_wal(); UPDATE t SET v = 'newer'});
is($primary->safe_psql('postgres',
		"SELECT pg_walfile_name(pg_current_wal_lsn()) = '$segment' AND pg_current_wal_insert_lsn() < '$lost'"),
	't', 'the primary writes WAL that its standbys have in another form');
$own->start;
is_refused($own, 'after its restart');

my $worker = $own->safe_psql('postgres', 'SELECT worker_pid FROM tcs.status');

kill('KILL', $worker);
wait_for_status($own, "worker_pid <> $worker AND worker_pid IS NOT NULL");
is_refused($own, 'after the crash of a process');

# This one has the WAL of the primary as it is, from the start of the segment on.
$plain->start;
$plain->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'})
  or die 'no WAL is streamed';
is($plain->safe_psql('postgres', 'SELECT pg_last_wal_receive_lsn() < pg_last_wal_replay_lsn()'),
	't', 'a WAL receiver that begins at the start of a segment');
is_refused($plain, 'a standby with primary_conninfo alone');


##
## What was received, and not replayed
##

$held->start;
ok($held->poll_query_until('postgres',
		q{SELECT link_state = 'connecting' AND link_detail ~ 'still replays the WAL that it had when it started' FROM tcs.status}),
	'no answer is taken while a standby replays the WAL that it had when it started');
my $waiting = start_read($held, $read, level => 'strong', max_wait => '3s', fallback => 'error');

wait_for_waiters($held);
open(my $fifo, '>', $hold) or die "cannot open $hold: $!";
unlink($hold) or die "cannot remove $hold: $!";
close($fifo);
is((finish_read($waiting))[0], 'TC004', '... not for a read that waits either');
is_refused($held, '... and when it has replayed it');


##
## Until it has come past that
##

$primary->safe_psql('postgres', 'CREATE TABLE filler AS SELECT generate_series(1, 100000)');
is($primary->safe_psql('postgres', "SELECT pg_current_wal_flush_lsn() > '$lost'"), 't', 'the primary has come past that');
ok($own->poll_query_until('postgres', q{SELECT link_state = 'up' FROM tcs.status}),
	'... then it is believed: the limit');

done_testing();

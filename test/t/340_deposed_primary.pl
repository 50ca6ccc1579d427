# test/t/340_deposed_primary.pl
#
# A deposed primary that still runs, and standbys that know of its successor though
# they have not followed it: told by the successor itself, by the WAL that is
# streamed, or by the history files here.  What the deposed primary answers counts
# no more, and nothing is redirected to it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsNodes;
use TcsReadIndex;
use TcsTest;

# No restartpoint is tried for the amount of WAL: it would be tried again 15 s later, and
# a restart would then begin on the new timeline.
my ($deposed, $successor, $told, $restarted, $diverged) = new_cluster(
	standbys => 4,
	conf => "tcs.probe_interval = '200ms'\ntcs.max_staleness = '1s'\nbgwriter_lru_maxpages = 0\nmax_wal_size = '4GB'\n");
my @levels = qw(strong bounded);
my $read = 'SELECT v FROM t WHERE id = 1';

# Has the worker look for the primary among both, in this order.
sub look_among
{
	my ($node, @nodes) = @_;

	$node->safe_psql('postgres', sprintf(
			q{ALTER SYSTEM SET tcs.primary_conninfo = 'host=%s port=%s user=%s dbname=postgres'},
			join(',', map { $_->host } @nodes), join(',', map { $_->port } @nodes),
			$deposed->safe_psql('postgres', 'SELECT current_user')));
	$node->reload;
	return;
}

# The status of a standby that has the answer of the successor.
sub is_told
{
	return q{link_state = 'up' AND primary_lsn >= '}
	  . read_index($successor) . q{'};
}

$deposed->safe_psql('postgres', q{
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t VALUES (1, 'older'), (2, 'old');
});


##
## A copy on the same timeline, which has more than the standby, and less than it needs
##

wait_for_replay($deposed, $told);
pause_replay($told);
$deposed->safe_psql('postgres', q{UPDATE t SET v = 'old' WHERE id = 1});
$deposed->backup('copy');

my $copy = PostgreSQL::Test::Cluster->new('copy');

$copy->init_from_backup($deposed, 'copy');
$copy->append_conf('postgresql.conf', "shared_preload_libraries = 'tcs'\n");
$copy->start;
redirect_to($deposed, options => sprintf("host '%s', port '%s'", $copy->host, $copy->port));
# which is replayed, so that there is a server to redirect to
$told->safe_psql('postgres', 'SET tcs.read_level = eventual; SELECT pg_wal_replay_resume()');
wait_for_replay($deposed, $told);
pause_replay($told);
$copy->safe_psql('postgres', 'CREATE TABLE filler AS SELECT generate_series(1, 20000)');
$deposed->safe_psql('postgres', q{
CREATE TABLE filler AS SELECT generate_series(1, 50000);
UPDATE t SET v = 'newer' WHERE id = 1;
});
wait_for_status($told, q{primary_lsn >= '} . read_index($deposed) . q{'});
foreach my $level (@levels)
{
	my ($state, $message) = psql_err($told, $read, level => $level, max_staleness => '1ms', max_wait => '100ms');

	is($state, 'TC001', "$level: nothing is redirected to a copy");
	like($message, qr/the redirect server has less WAL than the primary had before/, '... which is the reason');
}
$copy->stop;
$deposed->safe_psql('postgres', sprintf(
		"ALTER SERVER tcs_primary OPTIONS (SET host '%s', SET port '%s')", $deposed->host, $deposed->port));
$told->safe_psql('postgres', 'SET tcs.read_level = eventual; SELECT pg_wal_replay_resume()');
foreach my $node ($successor, $told, $restarted)
{
	wait_for_replay($deposed, $node);
	$node->safe_psql('postgres', "SET tcs.read_level = eventual; CHECKPOINT");
}
$deposed->safe_psql('postgres', q{CHECKPOINT; UPDATE t SET v = 'known' WHERE id = 1});
wait_for_replay($deposed, $_) foreach ($successor, $told, $restarted);

# so that no WAL of the deposed one comes in between
pause_replay($told);
$successor->promote;
$successor->safe_psql('postgres', q{UPDATE t SET v = 'new' WHERE id = 1});
$restarted->append_conf('postgresql.conf',
	"primary_conninfo = '" . ($successor->connstr =~ s/'//gr) . " application_name=restarted'");
$restarted->reload;
wait_for_status($restarted, 'timeline_id = 2');


##
## Told by the successor, before and after this standby has gone another way
##

look_among($told, $successor, $deposed);
wait_for_status($told, is_told());
foreach my $level (@levels)
{
	# what the deposed primary said before is not fresh enough either
	my %opt = (level => $level, max_staleness => '1ms', max_wait => '100ms');

	is(psql_err($told, $read, %opt, fallback => 'error'),
		'TC001', "$level: the successor is ahead");
	my ($state, $message) =
	  psql_err($told, $read, %opt, fallback => 'redirect, error');
	is($state, 'TC001', "$level: nothing is redirected to the deposed primary");
	like($message, qr/the redirect server is not the primary any more: It is on timeline 1/, '... which is the reason');
}

$deposed->safe_psql('postgres', q{UPDATE t SET v = 'deposed' WHERE id = 2});
$told->safe_psql('postgres', 'SET tcs.read_level = eventual; SELECT pg_wal_replay_resume()');
wait_for_replay($deposed, $told);
my $position = log_position($told);

wait_for_status($told, q{link_detail LIKE 'the server asked is on timeline 1, but there is a primary on timeline 2%'});
foreach my $level (@levels)
{
	is(psql_err($told, $read, level => $level, fallback => 'error'), 'TC004',
		"$level: a standby of the deposed primary does not know");
}

# Its sessions may have read what the successor does not have.
$deposed->safe_psql('postgres', sprintf(
		"ALTER SERVER tcs_primary OPTIONS (SET host '%s', SET port '%s')", $successor->host, $successor->port));
wait_for_replay($deposed, $told);
like((psql_err($told, $read, level => 'strong', fallback => 'redirect, error', max_wait => '100ms'))[1],
	qr/the redirect server does not have what the standby has replayed/,
	'nothing is redirected to where a session would go back');

look_among($told, $deposed);
wait_for_status($told, q{link_detail LIKE 'the server asked is on timeline 1, but%'});
is(psql_err($told, $read, level => 'strong', fallback => 'error'), 'TC004',
	'... also when the deposed primary alone is asked');
is(read_at($told, $read, level => 'eventual'), 'known', 'what asks for nothing is served');

# The hosts are tried by turns; each reason is told once.
my @lines = log_since($told, $position) =~ /no usable answer from the primary: the server asked is on timeline 1/g;
cmp_ok(scalar @lines, '<=', 1, 'the log tells it once');


##
## Told by the history file that its own WAL receiver has fetched
##

look_among($diverged, $deposed);
wait_for_replay($deposed, $diverged);
wait_for_status($diverged, q{link_state = 'up'});

my $repointed = log_position($diverged);

$diverged->append_conf('postgresql.conf',
	"primary_conninfo = '" . ($successor->connstr =~ s/'//gr) . " application_name=diverged'");
$diverged->reload;
wait_for_log_line($diverged, qr/new timeline 2 forked off current database system timeline 1 before/, $repointed);
wait_for_status($diverged, q{link_detail LIKE 'the server asked is on timeline 1, but there is a primary on timeline 2%'});
is(psql_err($diverged, $read, level => $_, fallback => 'error'), 'TC004', "$_: it cannot follow, and does not know")
  foreach (@levels);


##
## Told by what is streamed, and after a restart by the history file
##

look_among($restarted, $successor, $deposed);
wait_for_status($restarted, q{link_state = 'up'});
is(read_at($restarted, $read, level => 'strong'), 'new', 'a standby that has followed');

# Replay begins at the last restartpoint, and comes no further than the next commit.
$restarted->append_conf('postgresql.conf', "recovery_min_apply_delay = '1h'\n");
look_among($restarted, $deposed, $successor);
$restarted->stop('immediate');
$restarted->start;
wait_for_status($restarted, q{link_state IN ('up', 'refused', 'down')});
is(read_at($restarted, 'SELECT timeline_id FROM tcs.status'), '1', 'it replays timeline 1 again');
wait_for_status($restarted, is_told());
foreach my $level (@levels)
{
	my ($state, $message) =
	  psql_err($restarted, $read, level => $level, fallback => 'error', max_wait => '100ms');

	is($state, 'TC001', "$level: refused");
	like($message, qr/Needed .* of timeline 2, reached .* of timeline 1/, '... for want of the successor\'s WAL');
}

done_testing();

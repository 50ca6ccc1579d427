# test/t/240_cascade.pl
#
# A standby of a standby.  How fresh it is, only the primary at the root can
# say: while just the upstream is known, strong and bounded do not know, and are
# redirected if they may be; once the root is set, its answers count whatever the
# upstream has replayed, and what is missing is known to be missing when the upstream
# gets no WAL or is dead.  Then the root fails over, to a server that is not the
# upstream, and the standby follows through its upstream.

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

my $read = 'SELECT max(v) FROM t';
my $value = 0;
my @forever = (max_wait => -1);
my $root;

# The next write.
my $write_next = counted_write(\$value, 'INSERT INTO t VALUES (%d)');

sub receive_from
{
	my ($node, $upstream) = @_;

	configure($node, sprintf(q{primary_conninfo = '%s application_name=%s'},
			$upstream->connstr, $node->name));
	return;
}

# It knows of what its standby does not have.
sub knows_of_more
{
	my ($node) = @_;

	$node->poll_query_until('postgres', 'SELECT primary_lsn > replay_lsn FROM tcs.status')
	  or die 'no answer beyond what is replayed';
	return;
}

my ($first, $other, $middle) =
  new_cluster(standbys => 2, conf => "wal_retrieve_retry_interval = '100ms'\n");
my $leaf = new_standby($middle, 'leaf');

$root = $first;
my $hosts = join(',', map { $_->host } ($first, $other));
my $ports = join(',', map { $_->port } ($first, $other));

$root->safe_psql('postgres', 'CREATE TABLE t (v int)');
redirect_to($root, options => "host '$hosts', port '$ports'");
$write_next->($root);
wait_for_replay($root, $leaf);


##
## Only the upstream is known
##

link_says($leaf, 'refused', 'itself a standby; set tcs.primary_conninfo to the primary',
	'the upstream alone: what to set is told');
foreach my $level ('strong', 'bounded', 'linearizable')
{
	my ($state, $err) = psql_err($leaf, $read,
		level => $level, max_staleness => '1h', max_wait => '100ms', fallback => 'error');

	is($state, 'TC004', "... $level does not know");
	like($err, qr/itself a standby; set tcs.primary_conninfo to the primary/, '... and says what to set');
}
$write_next->($root);
foreach my $level ('strong', 'bounded')
{
	is( read_at($leaf, "$read;\nSELECT outcome FROM tcs.last_read",
			level => $level, max_staleness => 0, max_wait => '100ms', fallback => 'redirect, error'),
		"$value\nredirected",
		"... but the root can be asked for the answer itself, $level");
}
is(read_at($leaf, $read, token => $write_next->($root), @forever), $value, '... session needs nobody');


##
## The root is set
##

configure($leaf, sprintf(q{tcs.primary_conninfo = 'host=%s port=%s dbname=postgres target_session_attrs=read-write'},
		$hosts, $ports));
link_says($leaf, 'up', '^$', 'the root is asked');

# The upstream passes on what it has not replayed.
pause_replay($middle);
$write_next->($root);
is(read_at($leaf, $read, level => 'strong', @forever), $value, 'the upstream is behind: strong is served');
is(psql_err($middle, $read, level => 'strong', max_wait => '50ms', fallback => 'error'),
	'TC001', '... though not there');
resume_replay($middle);

configure($root, q{synchronous_standby_names = 'ANY 1 (standby1, standby2)'});
$root->poll_query_until('postgres',
	q{SELECT count(*) = 2 FROM pg_stat_replication WHERE sync_state = 'quorum'})
  or die 'no quorum';
$write_next->($root);
is(read_at($leaf, $read, level => 'linearizable', @forever), $value, 'linearizable has the quorum of the root');
configure($root, q{synchronous_standby_names = ''});
$root->poll_query_until('postgres',
	q{SELECT count(*) = 0 FROM pg_stat_replication WHERE sync_state = 'quorum'});

# The upstream gets nothing.
my $reached = $write_next->($root);

wait_for_replay($root, $leaf);
cut_off($middle);
my $missing = $write_next->($root);

knows_of_more($leaf);
is(psql_err($leaf, $read, level => 'strong', max_wait => '100ms', fallback => 'error'),
	'TC001', 'the upstream gets no WAL: strong is known to be behind');
is(psql_err($leaf, $read, token => $missing, max_wait => '100ms', fallback => 'error'),
	'TC001', '... session, too');
is(read_at($leaf, $read, token => $reached, max_wait => 0), $value - 1, '... what is there is served');
my @waiting = (
	start_read($leaf, $read, level => 'strong', fallback => 'error', @forever),
	start_read($leaf, $read, token => $missing, fallback => 'error', @forever));

wait_for_waiters($leaf, 2);
receive_from($middle, $root);
is(finish_read($_), $value, '... and what is not is waited for') foreach @waiting;

# The upstream is dead.
wait_for_replay($root, $_) foreach ($middle, $leaf);
$middle->stop('immediate');
$leaf->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_wal_receiver');
$write_next->($root);
knows_of_more($leaf);
my ($state, $err) =
  psql_err($leaf, $read, level => 'strong', max_wait => '100ms', fallback => 'error');

is($state, 'TC001', 'the upstream is dead: strong is known to be behind');
like($err, qr/receives no WAL: its WAL receiver is not streaming \(see its server log\)/, '... and why');
link_says($leaf, 'up', '^$', '... the root is asked on');
@waiting = start_read($leaf, $read, level => 'strong', fallback => 'error', @forever);
wait_for_waiters($leaf);
$middle->start;
is(finish_read($waiting[0]), $value, '... and waited for');


##
## The root fails over
##

my $kept = $write_next->($root);
my $kept_value = $value;

wait_for_replay($root, $_) foreach ($other, $middle, $leaf);
cut_off($_) foreach ($other, $middle);
my $lost = $write_next->($root);

knows_of_more($leaf);
my $doomed = start_read($leaf, $read, token => $lost, fallback => 'error', @forever);

wait_for_waiters($leaf);
$first->stop('immediate');
$other->promote;
$root = $other;
$root->safe_psql('postgres',
	'CREATE TABLE filler AS SELECT repeat($$x$$, 1000) FROM generate_series(1, 300)');
my $token = $write_next->($root);

# It is on the former timeline as long as its upstream is.
knows_of_more($leaf);
is(psql_err($leaf, $read, token => $token, max_wait => '100ms', fallback => 'error'),
	'TC001', 'a failover that the upstream does not follow: what is new is not there');
is(psql_err($leaf, $read, level => 'strong', max_wait => '100ms', fallback => 'error') =~ /^TC00[14]$/,
	1, '... strong is refused');
is( read_at($leaf, "$read;\nSELECT outcome FROM tcs.last_read",
		level => 'strong', max_wait => '100ms', fallback => 'redirect, error'),
	"$value\nredirected",
	'... or redirected to the new root');
is(read_at($leaf, $read, token => $kept, max_wait => 0), $kept_value, '... what was kept is served');

receive_from($middle, $root);
is(read_at($leaf, $read, token => $token, fallback => 'error', @forever), $value,
	'it follows through its upstream');
($state) = finish_read($doomed);
is($state, 'TC003', '... what was lost is refused, to who waited for it, too');
is( $leaf->safe_psql('postgres', 'SELECT timeline_id, link_state FROM tcs.status'),
	'2|up', '... on the new timeline, with the new root');
$write_next->($root);
is(read_at($leaf, $read, level => 'strong', fallback => 'error', @forever), $value,
	'strong asks the new root');
is(psql_err($leaf, $read, token => $lost, max_wait => -1), 'TC003', 'a lost token is lost');
is(read_at($leaf, $read, token => $kept, max_wait => 0), $value, 'one that was kept is not');

done_testing();

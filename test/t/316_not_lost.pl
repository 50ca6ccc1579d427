# test/t/316_not_lost.pl
#
# That a token is lost is not taken from a server that is not the primary: a copy of
# an earlier state, promoted or not, which a redirect server leads to.  The
# standby knows better by what it has replayed, or only received.  Of several
# hosts, one that has not looked at the token may be the primary.

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

my ($primary, $standby) =
  new_pair(conf => "tcs.redirect_after = 0\ntcs.max_wait = '100ms'\ntcs.redirect_timeout = '60s'\n");
my ($copy, $branch) = map { PostgreSQL::Test::Cluster->new($_) } qw(copy branch);
my $read = 'SELECT v FROM t';
my $drop = 'SET tcs.lost_token = drop;';

# The worker asks nobody, so all that is known is the standby's own WAL.
configure($standby, q{tcs.primary_conninfo = 'host=/nowhere dbname=postgres'});
wait_for_link($standby, 'down', 'nowhere') or die 'the worker still asks';

$primary->safe_psql('postgres', q{CREATE TABLE t (v text); INSERT INTO t VALUES ('old')});
foreach my $server ([ 'to_copy', $copy ], [ 'to_branch', $branch ], [ 'to_both', $primary, $branch ])
{
	my ($name, @nodes) = @$server;

	$primary->safe_psql('postgres', sprintf(
			q{CREATE SERVER %s FOREIGN DATA WRAPPER tcs_fdw OPTIONS (host '%s', port '%s');
			  CREATE USER MAPPING FOR CURRENT_USER SERVER %s},
			$name, join(',', map { $_->host } @nodes), join(',', map { $_->port } @nodes), $name));
}
wait_for_replay($primary, $standby);
pause_replay($standby);

# Both have what the standby has replayed, and not the write of the token.
$primary->backup('earlier');
$copy->init_from_backup($primary, 'earlier');
$branch->init_from_backup($primary, 'earlier');
$branch->set_standby_mode;
foreach my $node ($copy, $branch)
{
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'tcs'\n");
	$node->start;
}
$branch->promote;

# A write that none of them has, far behind the end of their WAL.
sub acknowledged_write
{
	my ($value) = @_;

	$primary->safe_psql('postgres', 'CREATE TABLE IF NOT EXISTS filler AS SELECT generate_series(1, 20000)');
	my $token = write_token($primary, "UPDATE t SET v = '$value'");

	$primary->poll_query_until('postgres',
		'SELECT flush_lsn >= pg_current_wal_lsn() FROM pg_stat_replication')
	  or die 'the standby has not received it';
	return $token;
}

# The read of a token is refused as one that the standby is behind for.
sub is_not_lost
{
	my ($server, $token, $reason, $what) = @_;
	my %opt = (token => $token, set => { 'tcs.redirect_server' => $server });
	my ($state, $err) = psql_err($standby, $read, %opt);

	is($state, 'TC001', "$what: not lost");
	like($err, $reason, '... and not redirected there');
	($state, $err) = psql_err($standby, "$drop $read", %opt);
	is($state, 'TC001', '... nor dropped');
	unlike($err, qr/WARNING/, '... with no warning');
	return;
}

my $token = acknowledged_write('received');
my $less = qr/the redirect server has less WAL than the primary had before: It has written WAL up to/;
my $other = qr/the redirect server does not have what the standby has replayed: The standby has replayed/;

is_not_lost('to_copy', $token, $less, 'a copy has less than was received');

# Who holds the lock keeps the primary from looking at the token.
my $holder = TcsWire->new($primary);

$holder->ok_query('BEGIN; LOCK TABLE tcs_internal.redirect_lock IN ACCESS EXCLUSIVE MODE');
is_not_lost('to_both', $token, qr/is locked by a transaction/, 'one of two has not looked at it');
$holder->ok_query('ROLLBACK');
is(read_at($standby, $read, token => $token, set => { 'tcs.redirect_server' => 'to_both' }),
	'received', '... and serves it a moment later');

# Replayed beyond the point where the copies were made.
resume_replay($standby);
wait_for_replay($primary, $standby);
pause_replay($standby);
$token = acknowledged_write('replayed');
is_not_lost('to_copy', $token, $less, 'a copy has less than was replayed');
is_not_lost('to_branch', $token, $other, 'a promoted copy has left before what was replayed');
resume_replay($standby);
is(read_at($standby, $read, token => $token, max_wait => '60s'), 'replayed', 'the write was there');

done_testing();

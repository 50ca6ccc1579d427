# test/t/325_same_timeline.pl
#
# A limit: histories that differ and cannot be told apart.  Two standbys that are
# promoted at the same position without a shared archive take the same timeline
# number and write history files that are the same, byte for byte; a copy of a
# primary that is started without recovery stays on its timeline.  This shows
# what then happens, as docs/limits.md tells it, and that an archive that both see is
# the cure.  A test here that fails because a token is refused is good news.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;

my $read = 'SELECT max(v) FROM t';

my ($primary, $one, $two, $archived) =
  new_cluster(standbys => 3);

$primary->safe_psql('postgres', 'CREATE TABLE t (v int); INSERT INTO t VALUES (0)');
$primary->backup('copy');
# so that the copies differ in nothing but what comes later
wait_for_replay($primary, $_) foreach ($one, $two, $archived);
my $third = new_standby($two, 'third');

wait_for_replay($primary, $third);

sub write_past
{
	my ($node, $token) = @_;

	$node->safe_psql('postgres',
		'CREATE TABLE filler AS SELECT repeat($$x$$, 1000) FROM generate_series(1, 300)');
	is( $node->safe_psql('postgres',
			"SELECT pg_current_wal_insert_lsn() > written_lsn FROM tcs.token_info('$token')"),
		't', $node->name . ' comes past the position');
	return;
}

sub history_file
{
	my ($node, $number) = @_;

	return slurp_file($node->data_dir . "/pg_wal/$number.history");
}


##
## A copy of the primary that stays on its timeline
##

my $copy = PostgreSQL::Test::Cluster->new('copy');

$copy->init_from_backup($primary, 'copy');
$copy->append_conf('postgresql.conf', "shared_preload_libraries = 'tcs'\n");
$copy->start;
my $token = write_token($primary,
	'CREATE TABLE filler1 AS SELECT repeat($$x$$, 1000) FROM generate_series(1, 100); INSERT INTO t VALUES (1)');

is(psql_err($copy, $read, token => $token, max_wait => -1),
	'TC003', 'a copy on the same timeline: refused while it has not come so far');
write_past($copy, $token);
is(read_at($copy, $read, token => $token), '0', 'then the token is believed: the limit');
$copy->stop;


##
## Two standbys promoted at the same position
##

wait_for_replay($primary, $_) foreach ($one, $two, $archived, $third);
$primary->stop;
# the shutdown record, too
my $end = replay_lsn($one);

$_->poll_query_until('postgres', "SELECT pg_last_wal_replay_lsn() >= '$end'")
  foreach ($one, $two, $archived, $third);
$one->promote;
$two->promote;
is(history_file($one, '00000002'), history_file($two, '00000002'),
	'two standbys promoted: history files that are the same');

$token = write_token($one,
	'CREATE TABLE filler2 AS SELECT repeat($$x$$, 1000) FROM generate_series(1, 100); INSERT INTO t VALUES (2)');
is(psql_err($two, $read, token => $token, max_wait => -1),
	'TC003', 'a token of the other is refused while this one has not come so far');
write_past($two, $token);
is(read_at($two, $read, token => $token), '1', 'then it is believed: the limit');
is($two->safe_psql('postgres', "SELECT on_this_history FROM tcs.token_info('$token')"), 't', '... tcs.token_info(), too');

# Its standby takes the answers of the wrong one for those of its primary, too, once
# that has come past what this one has.
wait_for_replay($two, $third);
$third->append_conf('postgresql.conf',
	sprintf(q{tcs.primary_conninfo = '%s dbname=postgres'}, $one->connstr));
$third->reload;
$one->poll_query_until('postgres',
	q{SELECT count(*) = 1 FROM tcs_internal.askers() WHERE application_name = 'third'})
  or die 'the standby does not ask the other one';
ok( $third->poll_query_until('postgres',
		q{SELECT link_state = 'refused' AND link_detail ~ 'has less WAL' FROM tcs.status}),
	'the answers of the other one are refused while that has not come so far');
my $has = replay_lsn($third);

$one->safe_psql('postgres',
	'CREATE TABLE filler3 AS SELECT repeat($$x$$, 1000) FROM generate_series(1, 600)');
is($one->safe_psql('postgres', "SELECT pg_current_wal_flush_lsn() > '$has'"), 't', '... which it then does');
ok($third->poll_query_until('postgres', q{SELECT link_state = 'up' FROM tcs.status}),
	'... then they are believed: the limit');


##
## The cure: an archive in which the history file is found
##

# It has nothing else, so this one does not follow.
$archived->append_conf('postgresql.conf',
	sprintf(q{restore_command = 'echo "%%f" | grep -q history && cp "%s/pg_wal/%%f" "%%p"'},
		$one->data_dir));
$archived->restart;
$archived->promote;
is($archived->safe_psql('postgres', 'SELECT timeline_id FROM tcs.status'), '3',
	'who finds the history file of the one takes the next number');
write_past($archived, $token);
is(psql_err($archived, $read, token => $token, max_wait => -1), 'TC003',
	'... and knows what it does not have');

done_testing();

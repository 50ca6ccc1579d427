# test/t/001_smoke.pl
#
# The main job once through, on a primary with two standbys: a token comes back
# with a write, a read that hands it over waits for it, a standby that stands
# still says so, strong and bounded are served through the worker.  The details
# are in the other files; if this one fails, look here first.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;

my ($primary, $near, $far) = new_cluster(standbys => 2);

$primary->safe_psql('postgres', 'CREATE TABLE t (a int)');
wait_for_replay($primary, $_) foreach ($near, $far);
wait_for_answer($_) foreach ($near, $far);

# a write, and a read of it
my $token = write_token($primary, 'INSERT INTO t VALUES (1)');

isnt($token, '', 'a write brings a token');
is(read_at($near, 'SELECT count(*) FROM t', token => $token),
	'1', 'a read with the token sees the write');
is(read_at($near, 'SELECT count(*) FROM t', level => 'strong'),
	'1', 'a strong read sees it without the token');
is( read_at(
		$near, 'SELECT count(*) FROM t',
		level => 'bounded',
		max_staleness => '10s'),
	'1',
	'a bounded read is served');

# a standby that stands still
pause_replay($far);
$token = write_token($primary, 'INSERT INTO t VALUES (2)');
is(read_at($far, 'SELECT count(*) FROM t', level => 'eventual', token => $token),
	'1', 'eventual serves what is there');
is( psql_err(
		$far, 'SELECT count(*) FROM t',
		token => $token,
		max_wait => '100ms'),
	'TC001',
	'session says that the standby is behind');
is(psql_err($far, 'SELECT count(*) FROM t', level => 'strong', max_wait => '500ms'),
	'TC001', 'so does strong');

# a read that waits, and is let go when replay goes on
my $read = start_read($far, 'SELECT count(*) FROM t', token => $token, max_wait => -1);

wait_for_waiters($far);
ok(read_running($read), 'the read waits');
resume_replay($far);

my ($state, $out) = finish_read($read);

is($state, '00000', 'the read is served when replay goes on');
is($out, '2', 'and sees the write');

done_testing();

# test/t/500_redirect.pl
#
# Reads that a standby sends to the primary: every kind of statement, run where
# replay stands still, so that a fresh answer proves where it came from.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsTest;

my ($primary, $standby) = new_pair();

redirect_to($primary);
$primary->safe_psql(
	'postgres', q{
	CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT i, 'old' FROM generate_series(1, 100) i;
});
wait_for_replay($primary, $standby);
pause_replay($standby);

my $token = write_token($primary, "UPDATE t SET v = 'new' WHERE id <= 3");

is(read_at($standby, 'SELECT v FROM t WHERE id = 1', token => $token),
	'new', 'a read that this standby cannot serve is redirected');

done_testing();

# test/t/660_publication.pl
#
# A publication FOR ALL TABLES has the tables of rules in it.  A subscriber that
# has the extension leaves them out: its rules are neither added to, nor changed,
# nor removed, and replication goes on.  TRUNCATE, which has no rows to leave out,
# is refused, and can be skipped.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;

my $publisher = new_primary('publisher', conf => "wal_level = logical\n");
my $subscriber =
  new_primary('subscriber', conf => "wal_retrieve_retry_interval = '100ms'\n");
my $rules = q{SELECT id, relation, role, level, group_name FROM tcs.rules ORDER BY id, relation;
	SELECT * FROM tcs.groups};
my $tables = q{CREATE TABLE t (i int PRIMARY KEY); CREATE TABLE u (i int PRIMARY KEY); };

# Has the subscriber what was published before?
sub is_replicated
{
	my ($what, $i) = @_;

	$publisher->safe_psql('postgres', "INSERT INTO t VALUES ($i)");
	ok($subscriber->poll_query_until('postgres', "SELECT count(*) > 0 FROM t WHERE i = $i"),
		"$what: replication goes on");
}

# The same ids on both sides; "only_here" is not on the other.
$publisher->safe_psql('postgres', $tables . q{
CREATE TABLE only_here (i int);
ALTER TABLE only_here REPLICA IDENTITY FULL;
SELECT tcs.set_rule('t', 'strong'), tcs.set_rule('u', 'strong');
SELECT tcs.set_rule('only_here', 'strong', reason => 'is not on the subscriber');
SELECT tcs.set_group('both', 't', 'u');
CREATE PUBLICATION everything FOR ALL TABLES});
$subscriber->safe_psql('postgres', $tables . q{
CREATE TABLE only_here (i int);
SELECT tcs.set_rule('t', 'bounded');
SELECT tcs.set_rule(role => 'pg_monitor', level => 'eventual');
SELECT tcs.set_group('mine', 't', 'u')});

my $own = $subscriber->safe_psql('postgres', $rules);
my $from = $publisher->connstr . ' dbname=postgres';

is($publisher->safe_psql('postgres', q{SELECT count(*) FROM pg_publication_tables WHERE schemaname = 'tcs'}),
	'2', 'the tables of rules are published');
$subscriber->safe_psql('postgres',
	"CREATE SUBSCRIPTION s CONNECTION '$from' PUBLICATION everything");
ok( $subscriber->poll_query_until('postgres',
		q{SELECT bool_and(srsubstate IN ('r', 's')) FROM pg_subscription_rel}),
	'all tables are copied');
is($subscriber->safe_psql('postgres', $rules), $own, 'but the rules');

# what comes later
my $log = log_position($subscriber);
my $i = 0;

foreach my $change (
	[ 'a new rule', q{SELECT tcs.set_rule('t', 'strong', operation => 'read', application_name => 'x')} ],
	[ 'a rule that is changed', q{SELECT tcs.set_rule('t', 'linearizable')} ],
	[ 'a rule that is dropped', q{SELECT tcs.drop_rule('t')} ],
	[ 'rows that are changed by hand', q{UPDATE tcs.rule SET level = 'eventual'} ],
	[ 'a group that is dropped', q{SELECT tcs.drop_group('both')} ],
	[ 'a new group', q{SELECT tcs.set_group('more', 't', 'u')} ],
	[ 'rows that are removed by hand', 'DELETE FROM tcs.rule; DELETE FROM tcs.rule_group' ])
{
	my ($what, $sql) = @$change;

	$publisher->safe_psql('postgres', $sql);
	is_replicated($what, ++$i);
	is($subscriber->safe_psql('postgres', $rules), $own, "$what: not here");
}
unlike(log_since($subscriber, $log), qr/ERROR/, 'no worker has failed');
like(log_since($subscriber, 0),
	qr/rules of tcs that come by logical replication are left out/, 'the log says so');

# TRUNCATE
$log = log_position($subscriber);
$publisher->safe_psql('postgres', 'TRUNCATE tcs.rule, tcs.rule_group');
wait_for_log_line($subscriber, qr/TRUNCATE of table "rule\w*" cannot come by logical replication/, $log);
wait_for_log_line($subscriber, qr/finished at [0-9A-F\/]+/, $log);
is($subscriber->safe_psql('postgres', $rules), $own, 'TRUNCATE is refused');
my ($lsn) = log_since($subscriber, $log) =~ m{finished at ([0-9A-F/]+)};
$subscriber->safe_psql('postgres', "ALTER SUBSCRIPTION s SKIP (lsn = '$lsn')");
is_replicated('TRUNCATE that is skipped', 100);

# a subscriber that does not load the library
my $rows = 'SELECT id, relation, role, level FROM tcs.rule ORDER BY id; SELECT * FROM tcs.rule_group';
my $own_rows = $subscriber->safe_psql('postgres', $rows);

$subscriber->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$subscriber->restart;
$publisher->safe_psql('postgres', q{SELECT tcs.set_rule('t', 'strong')});
is_replicated('without the library', 101);
is($subscriber->safe_psql('postgres', $rows), $own_rows, 'without the library: nothing comes');
$subscriber->append_conf('postgresql.conf', "shared_preload_libraries = 'tcs'");
$subscriber->restart;

# as a replica, rows are checked all the same
is( psql_err($subscriber, q{SET session_replication_role = replica; INSERT INTO tcs.rule (level) VALUES ('nonsense')}),
	'22023', 'session_replication_role = replica: a row is checked');
$subscriber->safe_psql('postgres',
	q{SET session_replication_role = replica; DELETE FROM tcs.rule WHERE relation = 't'::regclass});
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM tcs.rule'), '1', '... and can be removed');

done_testing();

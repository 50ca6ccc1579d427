# test/t/644_rules_changes.pl
#
# What is known of relations is forgotten when it changes, and only then.  Each way
# in which a relation can come under other rules is seen by the next statement of
# sessions that go on, on primary and standby, also if it is undone.  What happens to
# other relations makes nobody look into the catalogs again.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsRules;
use TcsTest;
use TcsWire;

my ($primary, $standby) = new_pair();

# The level of probe is raised to strong by what is read with a member of its group
# and is in schema strict, or has_rule, or a child of it.
everywhere([ $primary, $standby ], q{
CREATE SCHEMA strict;
CREATE SCHEMA open;
CREATE TABLE probe (v int);
CREATE TABLE tree (v int) PARTITION BY LIST (v);
CREATE TABLE tree1 PARTITION OF tree FOR VALUES IN (1);
CREATE TABLE subtree (v int) PARTITION BY LIST (v);
CREATE TABLE subtree5 PARTITION OF subtree FOR VALUES IN (5);
CREATE TABLE base (v int);
CREATE TABLE child () INHERITS (base);
CREATE TABLE grandchild () INHERITS (child);
CREATE TABLE nothing ();
CREATE TABLE has_rule (v int);
CREATE TABLE has_rule_too ();
CREATE TABLE goes (v int);
CREATE VIEW inner_view AS SELECT v FROM base;
CREATE VIEW outer_view AS SELECT v FROM inner_view;
CREATE TABLE apart (v int);
CREATE TABLE strict.t (v int);
CREATE FUNCTION inlined() RETURNS SETOF int LANGUAGE sql STABLE AS 'SELECT v FROM apart';
SELECT tcs.set_rule(schema => 'strict', level => 'strong');
SELECT tcs.set_rule('has_rule', 'strong');
SELECT tcs.set_rule('has_rule_too', 'strong');
SELECT tcs.set_rule('goes', 'strong');
SELECT tcs.set_rule('probe', 'session');
SELECT tcs.set_rule('apart', 'session');
SELECT tcs.set_group('g', 'probe', 'tree', 'nothing', 'outer_view');
});

# Changes, what they concern, and its level before and after.
my $probe = 'SELECT * FROM probe';
my $apart = 'SELECT * FROM apart';
my @changes = (
	[ 'CREATE TABLE strict.tree2 PARTITION OF tree FOR VALUES IN (2)', $probe, 'session', 'strong' ],
	[ 'DROP TABLE strict.tree2', $probe, 'strong', 'session' ],
	[ 'ALTER TABLE tree ATTACH PARTITION has_rule FOR VALUES IN (3)', $probe, 'session', 'strong' ],
	[ 'ALTER TABLE tree DETACH PARTITION has_rule', $probe, 'strong', 'session' ],
	[ 'ALTER TABLE tree ATTACH PARTITION goes FOR VALUES IN (3)', $probe, 'session', 'strong' ],
	[ 'ALTER TABLE tree DETACH PARTITION goes CONCURRENTLY', $probe, 'strong', 'session', 'not undone' ],
	[ 'ALTER TABLE subtree5 SET SCHEMA strict', $probe, 'session', 'session' ],
	[ 'ALTER TABLE tree ATTACH PARTITION subtree FOR VALUES IN (5)', $probe, 'session', 'strong' ],
	[ 'ALTER TABLE strict.subtree5 SET SCHEMA public', $probe, 'strong', 'session' ],
	[ 'ALTER TABLE subtree SET SCHEMA strict', $probe, 'session', 'strong' ],
	[ 'ALTER SCHEMA strict RENAME TO strict2', $probe, 'strong', 'strong' ],
	[ 'ALTER SCHEMA strict2 RENAME TO strict', 'SELECT * FROM subtree5', 'strong', 'strong' ],
	[ 'ALTER TABLE tree DETACH PARTITION strict.subtree', $probe, 'strong', 'session' ],
	[ 'ALTER TABLE tree ATTACH PARTITION strict.subtree FOR VALUES IN (5)', $probe, 'session', 'strong' ],
	[ 'DROP TABLE strict.subtree', $probe, 'strong', 'session' ],
	[ 'ALTER TABLE tree SET SCHEMA strict', 'SELECT * FROM tree1', 'session', 'strong' ],
	[ 'ALTER TABLE strict.tree RENAME TO trunk', 'SELECT * FROM tree1', 'strong', 'strong' ],
	[ 'ALTER TABLE strict.trunk SET SCHEMA open', 'SELECT * FROM tree1', 'strong', 'session' ],

	[ 'ALTER TABLE has_rule INHERIT base', $probe, 'session', 'strong' ],
	[ 'ALTER TABLE has_rule NO INHERIT base', $probe, 'strong', 'session' ],
	[ 'CREATE TABLE strict.of_grandchild () INHERITS (grandchild)', $probe, 'session', 'strong' ],
	[ 'DROP TABLE strict.of_grandchild', $probe, 'strong', 'session' ],
	[ 'ALTER TABLE grandchild SET SCHEMA strict', $probe, 'session', 'strong' ],
	[ 'DROP TABLE strict.grandchild', $probe, 'strong', 'session' ],
	[ 'ALTER TABLE apart INHERIT has_rule', $apart, 'session', 'session' ],
	[ 'ALTER TABLE base INHERIT has_rule', 'SELECT * FROM child', '-', 'strong' ],
	[ 'ALTER TABLE base NO INHERIT has_rule', 'SELECT * FROM child', 'strong', '-' ],
	# no column is inherited
	[ 'ALTER TABLE has_rule INHERIT nothing', $probe, 'session', 'strong' ],
	[ 'ALTER TABLE has_rule NO INHERIT nothing', $probe, 'strong', 'session' ],
	[ 'ALTER TABLE base INHERIT has_rule_too', 'SELECT * FROM child', '-', 'strong' ],
	[ 'ALTER TABLE base NO INHERIT has_rule_too', 'SELECT * FROM child', 'strong', '-' ],

	[ 'CREATE OR REPLACE VIEW inner_view AS SELECT v FROM strict.t', $probe, 'session', 'strong' ],
	[ 'CREATE OR REPLACE VIEW inner_view AS SELECT v FROM open.trunk', $probe, 'strong', 'session' ],
	[ 'CREATE TABLE strict.trunk7 PARTITION OF open.trunk FOR VALUES IN (7)', 'SELECT * FROM outer_view', 'session', 'strong' ],
	[ 'DROP TABLE strict.trunk7', $probe, 'strong', 'session' ],
	[ 'CREATE OR REPLACE VIEW outer_view AS SELECT v FROM has_rule', $probe, 'session', 'strong' ],
	[ 'CREATE OR REPLACE VIEW outer_view AS SELECT v FROM base', $probe, 'strong', 'session' ],
	[ 'ALTER VIEW outer_view SET SCHEMA strict', $probe, 'session', 'strong' ],
	[ 'DROP VIEW strict.outer_view', $probe, 'strong', 'session' ],
	[ q{CREATE OR REPLACE FUNCTION inlined() RETURNS SETOF int LANGUAGE sql STABLE AS 'SELECT v FROM has_rule'},
		'SELECT * FROM inlined()', 'session', 'strong' ]);

# The level that a client reads a statement at, and the same prepared; "-" for none by a rule.
sub levels_of
{
	my ($client, $sql, $prepared) = @_;

	return join ' ', map { my ($level, $by) = split /\|/, level_of($client, $_); $by && $by eq 'rule' ? $level : '-' } ($sql, "EXECUTE $prepared");
}

my @clients = map { TcsWire->new($_) } ($primary, $standby);
my $ddl = TcsWire->new($primary);
my $n = 0;

foreach (@changes)
{
	my ($change, $read, $before, $after, $not_undone) = @$_;
	my $prepared = 'p' . ++$n;

	foreach my $client (@clients)
	{
		$client->ok_query("PREPARE $prepared AS $read");
		is(levels_of($client, $read, $prepared), "$before $before", "before $change");
	}
	if (!$not_undone)
	{
		my $client = $clients[0];

		foreach my $end ('ROLLBACK', 'ROLLBACK TO s; COMMIT', 'PREPARE TRANSACTION \'x\'')
		{
			$client->ok_query("BEGIN; SAVEPOINT s; $change");
			is(level_of($client, $probe), "$after|rule", "in a transaction: $change")
			  if $read eq $probe;
			level_of($client, $read);
			$client->ok_query($end);
			is(level_of($client, $probe), "$before|rule", "... and $end") if $read eq $probe;
			$client->ok_query("ROLLBACK PREPARED 'x'") if $end =~ /PREPARE/;
			is(levels_of($client, $read, $prepared), "$before $before", "... after $end");
		}
	}
	$ddl->ok_query($change);
	wait_for_replay($primary, $standby);
	is(levels_of($_, $read, $prepared), "$after $after", "after $change") foreach (@clients);
	$_->ok_query("DEALLOCATE $prepared") foreach (@clients);
}


##
## Changes of others
##

everywhere([ $primary, $standby ], q{
CREATE TABLE large (v int) PARTITION BY LIST (v);
DO $$BEGIN FOR n IN 1..50 LOOP EXECUTE format('CREATE TABLE large%s PARTITION OF large FOR VALUES IN (%s)', n, n); END LOOP; END$$;
CREATE VIEW over AS SELECT v FROM large;
CREATE TABLE beside (v int);
SELECT tcs.set_rule('large', 'session');
SELECT tcs.set_group('h', 'beside', 'over');
});

# How often a session has looked for parents and children, until now in its transaction.
sub scans
{
	my ($client) = @_;

	return $client->ok_query(q{SELECT sum(pg_stat_get_xact_numscans(i::regclass)) FROM unnest('{pg_inherits_parent_index,pg_inherits_relid_seqno_index}'::text[]) AS i});
}

# The same for each session, while it reads after somebody has done something.
sub scans_after
{
	my ($sql) = @_;
	my @scans;

	foreach my $client (@clients)
	{
		$client->ok_query("EXECUTE $_") foreach ('large', 'beside');
	}
	$ddl->ok_query($sql);
	wait_for_replay($primary, $standby);
	foreach my $client (@clients)
	{
		$client->ok_query('BEGIN');

		my $before = scans($client);

		$client->ok_query('EXECUTE large; EXECUTE beside');
		is($client->ok_query('SELECT level_source FROM tcs.last_read'), 'rule', "by a rule after $sql");
		push @scans, scans($client) - $before;
		$client->ok_query('COMMIT');
	}
	return @scans;
}

foreach my $client (@clients)
{
	$client->ok_query('PREPARE large AS SELECT v FROM large WHERE v = 7; PREPARE beside AS SELECT * FROM beside');
	$client->ok_query("EXECUTE $_") foreach ('large', 'beside');
}
foreach my $sql (
	'CREATE TEMP TABLE passing (v int); DROP TABLE passing', 'CREATE TABLE passing (v int)',
	'GRANT SELECT ON passing TO PUBLIC', 'TRUNCATE passing', 'DROP TABLE passing',
	'CREATE VIEW passing AS SELECT 1 AS v', 'DROP VIEW passing', 'ANALYZE probe', 'BEGIN; CREATE TABLE passing (v int); ROLLBACK')
{
	is("@{[ scans_after($sql) ]}", '0 0', "nothing is looked up again after $sql");
}
# one that has changed does not take the others along
cmp_ok($_, '<', 10, 'after TRUNCATE of a partition, the others are known') foreach (scans_after('TRUNCATE large9'));
is("@{[ scans_after('CREATE TEMP TABLE passing (v int); DROP TABLE passing') ]}", '0 0', '... and all is again');

$_->disconnect foreach (@clients, $ddl);

done_testing();

# test/t/642_rules_views.pl
#
# What is known of views: a member of a group that is a view binds the others by all
# that it reads.  It does so after an error in the midst of finding that out, in a
# circle of views, through many views, and while somebody has a view locked.

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
my $read = 'SELECT count(*) FROM t';

everywhere([ $primary, $standby ], q{
CREATE ROLE mal LOGIN;
CREATE SCHEMA m AUTHORIZATION mal;
CREATE TABLE st (i int);
CREATE TABLE t (i int);
GRANT SELECT ON t TO mal;
SELECT tcs.set_rule('t', 'session');
SELECT tcs.set_rule('st', 'strong', floor => 'strong', hard => true, fallback => 'error');
});

# Makes views and puts one of them into the group of t, in place of the one before.
sub group_with
{
	my ($view, $sql) = @_;

	everywhere([ $primary, $standby ], "$sql; SELECT tcs.drop_group('grp') FROM tcs.groups LIMIT 1; SELECT tcs.set_group('grp', 't', '$view')");
	return;
}


##
## An error in the midst
##

# The query of the inner view is too deep for a small stack.
group_with('m.outer', 'CREATE VIEW m.inner AS SELECT ' . ('(1+' x 500) . 'i' . (')' x 500) . ' AS i FROM st;
CREATE VIEW m.outer AS SELECT * FROM m.inner');
foreach my $node ($primary, $standby)
{
	my $name = $node->name;

	foreach my $caught (0, 1)
	{
		my $client = TcsWire->new($node);
		my $how = $caught ? 'caught' : 'not caught';

		$client->ok_query("SET max_stack_depth = '100kB'");
		if ($caught)
		{
			$client->ok_query("DO \$\$ BEGIN PERFORM count(*) FROM t; RAISE 'no error'; EXCEPTION WHEN statement_too_complex THEN NULL; END \$\$");
		}
		else
		{
			is(level_of($client, $read), '54001', "$name: the look-up fails");
		}
		$client->ok_query('RESET max_stack_depth');
		is(level_of($client, $read), 'strong|rule', "$name: after an error, $how, nothing is forgotten");
		$client->disconnect;
	}
}


##
## Circles, and many views
##

group_with('m.a', q{
CREATE VIEW m.a AS SELECT 1 AS i;
CREATE VIEW m.b AS SELECT i FROM m.a UNION ALL SELECT i FROM st;
CREATE VIEW m.c AS SELECT i FROM m.b;
CREATE OR REPLACE VIEW m.a AS SELECT i FROM m.c});
is(explain($_, $read), 'strong by rule 2', $_->name . ': views that lead back to themselves') foreach ($primary, $standby);

group_with('m.w1000', q{
CREATE VIEW m.w0 AS SELECT i FROM st;
DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format('CREATE VIEW m.w%s AS SELECT i FROM m.w%s', n, n - 1); END LOOP; END $$});
foreach my $node ($primary, $standby)
{
	my $client = TcsWire->new($node);

	$client->ok_query("SET max_stack_depth = '100kB'");
	is(level_of($client, $read), 'strong|rule', $node->name . ': 1000 views, and a small stack');
	$client->disconnect;
}


##
## A view that is locked
##

group_with('m.two', q{
CREATE VIEW m.one AS SELECT i FROM st;
CREATE VIEW m.two AS SELECT i FROM m.one;
ALTER VIEW m.one OWNER TO mal;
ALTER VIEW m.two OWNER TO mal;
CREATE TABLE m.free (i int);
ALTER TABLE m.free OWNER TO mal;
GRANT SELECT ON st TO mal});
foreach my $view ('m.one', 'm.two')
{
	my $owner = TcsWire->new($primary, user => 'mal');

	$owner->ok_query("BEGIN; CREATE OR REPLACE VIEW $view AS SELECT i FROM m.free");
	everywhere([ $primary, $standby ], 'SELECT pg_switch_wal()');
	foreach my $node ($primary, $standby)
	{
		my $client = TcsWire->new($node, options => '-c lock_timeout=1000');

		is(level_of($client, $read), 'strong|rule', $node->name . ": $view is locked: as before the change");
		$client->disconnect;
	}
	is(psql_err($primary, 'SET lock_timeout = 1000; INSERT INTO t VALUES (1)'), '00000', "$view is locked: a writer goes on");

	my @clients = map { TcsWire->new($_) } ($primary, $standby);

	is(level_of($_, $read), 'strong|rule', "$view is locked: in a session that goes on") foreach (@clients);
	$owner->ok_query('COMMIT');
	wait_for_replay($primary, $standby);
	is(level_of($_, $read), 'session|rule', "$view: after the change") foreach (@clients);
	everywhere([ $primary, $standby ], 'CREATE OR REPLACE VIEW m.one AS SELECT i FROM st; CREATE OR REPLACE VIEW m.two AS SELECT i FROM m.one');
	is(level_of($_, $read), 'strong|rule', "$view: after it is undone") foreach (@clients);
	$_->disconnect foreach (@clients, $owner);
}

done_testing();

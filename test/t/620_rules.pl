# test/t/620_rules.pl
#
# Rules by data: made on the primary, obeyed on both standbys as soon as they are
# replayed, by every way that a statement can come; how they combine with what the
# client said; floors; groups.
#
# Replay of the first standby is paused for most of it, so that a read that asks
# for a token which is not there yet is refused, and one that does not is served.

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

my ($primary, $s1, $s2) = new_cluster(standbys => 2);
my @standbys = ($s1, $s2);

everywhere([ $primary, @standbys ], q{
CREATE TABLE account (id int PRIMARY KEY, balance int);
CREATE TABLE likes (id int, n int);
CREATE TABLE plain (v int);
CREATE TABLE part (id int, v int) PARTITION BY LIST (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2);
CREATE TABLE mother (v int);
CREATE TABLE child () INHERITS (mother);
CREATE VIEW rich AS SELECT * FROM account WHERE balance > 1000;
CREATE VIEW richer AS SELECT * FROM rich;
CREATE SCHEMA shop;
CREATE TABLE shop.cart (v int);
CREATE FUNCTION inlined() RETURNS SETOF account LANGUAGE sql STABLE AS 'SELECT * FROM account';
CREATE FUNCTION opaque() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM account); END';
CREATE TABLE drop_box (v int);
CREATE RULE look AS ON INSERT TO drop_box DO INSTEAD SELECT * FROM inlined();
CREATE ROLE web LOGIN;
CREATE ROLE worker LOGIN IN ROLE web;
GRANT pg_read_all_data TO web;
INSERT INTO account VALUES (1, 100);
INSERT INTO likes VALUES (1, 1);
});


##
## Which rule
##

everywhere([ $primary, @standbys ], q{
SELECT tcs.set_rule('account', 'strong', reason => 'money');
SELECT tcs.set_rule('likes', 'eventual');
SELECT tcs.set_rule('part', 'bounded', max_staleness => '2s');
SELECT tcs.set_rule('mother', 'strong');
SELECT tcs.set_rule(schema => 'shop', level => 'causal');
});
my $rule = 'rule [0-9]+';

foreach my $node (@standbys)
{
	like(explain($node, @{$_}[0]), qr/^$_->[1]$/, $node->name . ": $_->[0]")
	  foreach (
		[ 'SELECT * FROM account', "strong by $rule" ],
		[ 'SELECT n FROM likes', "eventual by $rule" ],
		[ 'SELECT * FROM likes, account', "strong by $rule" ],
		[ 'SELECT * FROM plain', 'session by default' ],
		[ 'SELECT * FROM plain, likes', 'session by default' ],
		[ 'SELECT * FROM plain WHERE v IN (SELECT id FROM account)', "strong by $rule" ],
		[ 'WITH w AS (SELECT * FROM account) SELECT 1 FROM likes', "strong by $rule" ],
		[ 'SELECT * FROM part', "bounded by $rule" ],
		[ 'SELECT * FROM part_2', "bounded by $rule" ],
		[ 'SELECT * FROM child', "strong by $rule" ],
		[ 'SELECT * FROM rich', "strong by $rule" ],
		[ 'SELECT * FROM richer', "strong by $rule" ],
		[ 'SELECT * FROM shop.cart', "causal by $rule" ],
		[ 'SELECT * FROM inlined()', "strong by $rule" ],
		[ 'SELECT * FROM pg_class', 'session by default' ],
		[ 'SELECT 1', 'eventual by exempt' ],
		[ 'SELECT * FROM likes WHERE id = $1', "eventual by $rule" ],
		[ 'EXPLAIN SELECT * FROM account', "strong by $rule" ],
		[ 'INSERT INTO drop_box VALUES (1)', "strong by $rule" ],
		[ 'EXPLAIN INSERT INTO drop_box VALUES (1)', "strong by $rule" ],
		[ 'DECLARE c CURSOR FOR SELECT * FROM account', "strong by $rule" ],
		[ 'COPY account TO STDOUT', "strong by $rule" ],
		[ 'COPY (SELECT * FROM account) TO STDOUT', "strong by $rule" ]);
}

is(read_at($s1, q{SELECT level_detail FROM tcs.explain_level('SELECT * FROM account')}),
	'the strongest rule for what it reads is rule 1: money', 'explain_level() says why');


##
## Statements that run
##

# A rule of PostgreSQL has put a query in the place of a write; it is rewritten once.
like(served($primary, $_), qr/^strong by $rule$/, "the primary runs $_")
  foreach (
	'INSERT INTO drop_box VALUES (1)',
	'EXPLAIN ANALYZE INSERT INTO drop_box VALUES (1)',
	'PREPARE p AS INSERT INTO drop_box VALUES (1); EXECUTE p; EXECUTE p',
	'PREPARE p AS INSERT INTO drop_box VALUES (1); EXPLAIN ANALYZE EXECUTE p');

foreach my $node (@standbys)
{
	like(served($node, @{$_}[0]), qr/^$_->[1]$/, $node->name . " runs $_->[0]")
	  foreach (
		[ 'SELECT * FROM account', "strong by $rule" ],
		[ 'SELECT n FROM likes', "eventual by $rule" ],
		[ 'SELECT * FROM plain', 'session by default' ],
		[ 'SELECT * FROM part_2', "bounded by $rule" ],
		[ 'SELECT * FROM richer', "strong by $rule" ],
		[ 'SELECT * FROM inlined()', "strong by $rule" ],
		[ 'EXPLAIN ANALYZE SELECT * FROM account', "strong by $rule" ],
		[ 'BEGIN; DECLARE c CURSOR FOR SELECT * FROM account; FETCH c; COMMIT', "strong by $rule" ],
		[ 'COPY account TO STDOUT', "strong by $rule" ],
		[ 'COPY (SELECT * FROM account) TO STDOUT', "strong by $rule" ],
		[ 'PREPARE p AS SELECT * FROM account; EXECUTE p', "strong by $rule" ],
		[ 'PREPARE p(int) AS SELECT * FROM likes WHERE id = $1; EXECUTE p(1)', "eventual by $rule" ],
		[ 'BEGIN; SELECT * FROM account; COMMIT', "strong by $rule" ],
		[ 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM account; COMMIT', "strong by $rule" ]);
}

# What a function reads below a statement cannot be waited for.
is(psql_err($s1, 'SELECT opaque()', max_wait => '60s'), '55000',
	'a function that nobody has made a rule for is refused');
everywhere([ $primary, @standbys ], q{SELECT tcs.set_rule(function => 'opaque()', level => 'strong')});
is(read_at($s1, 'SELECT opaque()'), '1', '... and served with a rule for the function');


##
## Prepared statements, while rules change
##

{
	my $session = TcsWire->new($s1, options => '-c plan_cache_mode=force_generic_plan');
	my $look = q{SELECT level || ' by ' || concat_ws(' ', level_source, rule_id) FROM tcs.last_read};

	$session->parse('read', 'SELECT n FROM likes')->sync;
	$session->results;
	foreach my $level ('bounded', 'session', 'strong', 'eventual')
	{
		everywhere([ $primary, @standbys ], "SELECT tcs.set_rule('likes', '$level')");
		foreach (1 .. 3)
		{
			$session->bind('', 'read')->execute('')->sync;
			is(TcsWire::describe_result($session->results), '1', "prepared: served at $level");
			like($session->ok_query($look), qr/^$level by $rule$/, '... by the rule');
		}
	}
	everywhere([ $primary, @standbys ], q{SELECT tcs.drop_rule('likes')});
	$session->bind('', 'read')->execute('')->sync;
	$session->results;
	is($session->ok_query($look), 'session by default', '... and without one');
	everywhere([ $primary, @standbys ], q{SELECT tcs.set_rule('likes', 'eventual')});
	$session->disconnect;
}


##
## What the client said, and floors
##

everywhere([ $primary, @standbys ], q{SELECT tcs.set_rule('plain', 'session', floor => 'monotonic_reads')});
like(explain($s1, $_->[0], %{ $_->[1] }), qr/^$_->[2]$/, "$_->[0]: $_->[2]")
  foreach (
	[ 'SELECT * FROM account', { level => 'eventual' }, 'eventual by session' ],
	[ 'SELECT * FROM account', { options => '-c tcs.read_level=eventual' }, "strong by $rule" ],
	[ 'SELECT * FROM plain', { options => '-c tcs.read_level=eventual' }, "session by $rule" ],
	[ 'SELECT * FROM plain', { level => 'eventual' }, "monotonic_reads by floor [0-9]+" ],
	[ 'SELECT * FROM plain', { level => 'read_your_writes' }, "session by floor [0-9]+" ],
	[ 'SELECT * FROM plain', { level => 'strong' }, 'strong by session' ],
	[ '/* tcs(eventual) */ SELECT * FROM plain', {}, "monotonic_reads by floor [0-9]+" ],
	[ '/* tcs(eventual) */ SELECT * FROM account', {}, 'eventual by hint' ],
	[ '/* tcs(strong) */ SELECT * FROM likes', {}, 'strong by hint' ]);

pause_replay($s1);
my $token = write_token($primary, 'INSERT INTO plain VALUES (1)');
is(psql_err($s1, 'SELECT * FROM likes', token => $token, max_wait => 0), '00000',
	'a rule lets stale reads of its relation through');
my ($state, $err) = psql_err($s1, 'SELECT * FROM plain', token => $token, max_wait => 0);
is($state, 'TC001', '... of that alone');
like($err, qr/HINT:  .*A weaker level can be allowed in tcs\.fallback\.\n.*CONTEXT:  read level required by rule \d+\n/s, '... which is named');
unlike((psql_err($s1, 'SELECT * FROM plain', token => $token, max_wait => 0, level => 'session'))[1],
	qr/required by rule/, '... unless the client has asked for it');
is( psql_err(
		$s1, "SET tcs.fallback = 'eventual, error'; SELECT * FROM account",
		token => $token, max_wait => 0),
	'00000',
	'a fallback may go below a rule');
everywhere_but_paused("SELECT tcs.set_rule('account', 'strong', floor => 'session')");
resume_replay($s1);
wait_for_replay($primary, $s1);
pause_replay($s1);
$token = write_token($primary, 'INSERT INTO plain VALUES (2)');
is( psql_err(
		$s1, "SET tcs.fallback = 'eventual, error'; SELECT * FROM account",
		token => $token, max_wait => 0),
	'TC001',
	'... but not below its floor');
($state, $err) = psql_err($s1, 'SELECT * FROM account', token => $token, max_wait => 0, level => 'eventual');
is($state, 'TC001', '... nor does the client');
like($err, qr/HINT:  .*A floor in tcs\.rules forbids a weaker level; tcs\.relax\(\) is for an emergency\.\n.*CONTEXT:  read level required by rule \d+\n/s, '... and the hint is not to');
resume_replay($s1);
everywhere([ $primary, @standbys ], q{CREATE TABLE fenced (v int); SELECT tcs.set_rule('fenced', 'linearizable', floor => 'linearizable')});
($state, $err) = psql_err($primary, 'SELECT * FROM fenced');
is($state, '55000', 'no quorum can confirm what a rule asks for');
like($err, qr/HINT:  .*A floor in tcs\.rules forbids a weaker level; tcs\.relax\(\) is for an emergency\.\n.*CONTEXT:  read level required by rule \d+\n/s, '... the rule is named');
everywhere([ $primary, @standbys ], 'DROP TABLE fenced');

sub everywhere_but_paused
{
	my ($sql) = @_;

	$primary->safe_psql('postgres', $sql);
	wait_for_replay($primary, $s2);
	return;
}


##
## Roles and applications
##

everywhere([ $primary, @standbys ], q{
SELECT tcs.set_rule(role => 'web', level => 'bounded', max_staleness => '3s');
SELECT tcs.set_rule('account', 'linearizable', role => 'web');
SELECT tcs.set_rule(application_name => 'report%', level => 'consistent_prefix');
});
# no rule can name this one, and it has data
like(explain($s2, $_->[0], %{ $_->[1] }), qr/^$_->[2]$/, "$_->[0]: $_->[2]")
  foreach (
	[ 'SELECT * FROM shop.cart', { user => 'web' }, "causal by $rule" ],
	[ 'SELECT * FROM child', { user => 'web' }, "strong by $rule" ],
	[ 'SELECT * FROM pg_largeobject_metadata', { user => 'web' }, "bounded by $rule" ],
	[ 'SELECT * FROM pg_largeobject_metadata', { user => 'worker' }, "bounded by $rule" ],
	[ 'SELECT * FROM pg_class', { user => 'web' }, 'eventual by exempt' ],
	[ 'SELECT * FROM pg_largeobject_metadata', {}, 'session by default' ],
	[ 'SELECT * FROM account', { user => 'web' }, "linearizable by $rule" ],
	[ 'SELECT * FROM account', {}, "strong by $rule" ],
	[ 'SELECT * FROM pg_largeobject_metadata', { set => { application_name => 'reporting' } }, "consistent_prefix by $rule" ]);
{
	my $session = TcsWire->new($s2);
	my $look = q{SELECT level || ' by ' || concat_ws(' ', level_source, rule_id) FROM tcs.last_read};

	foreach ([ 'SET ROLE web', 'bounded' ], [ 'RESET ROLE', 'session' ],
		[ 'SET application_name = report_7', 'consistent_prefix' ], [ 'RESET application_name', 'session' ])
	{
		$session->ok_query($_->[0]);
		$session->ok_query('SELECT count(*) FROM pg_largeobject_metadata');
		like($session->ok_query($look), qr/^$_->[1] by/, "$_->[0]: $_->[1]");
	}
	$session->disconnect;
}

# A session goes on, and its user becomes a member, or is one no more.
{
	my $session = TcsWire->new($s2, user => 'web');

	everywhere([ $primary, @standbys ], q{
CREATE ROLE joined;
SELECT tcs.set_rule(role => 'joined', floor => 'strong');
SELECT tcs.set_rule(role => 'pg_database_owner', floor => 'strong');
});
	foreach ([ 'GRANT joined TO web', 'strong' ], [ 'REVOKE joined FROM web', 'bounded' ],
		[ 'ALTER DATABASE postgres OWNER TO web', 'strong' ], [ 'ALTER DATABASE postgres OWNER TO CURRENT_USER', 'bounded' ])
	{
		everywhere([ $primary, @standbys ], $_->[0]);
		$session->ok_query('SELECT count(*) FROM pg_largeobject_metadata');
		is($session->ok_query('SELECT level FROM tcs.last_read'), $_->[1], "a session that goes on: $_->[0]");
	}
	$session->disconnect;
	everywhere([ $primary, @standbys ], q{SELECT tcs.drop_rule(role => r) FROM unnest('{joined,pg_database_owner}'::regrole[]) AS r; DROP ROLE joined});
}

# Who is only a member did not choose the rule's role.  Against a level from ALTER
# ROLE of his own it raises, and lowers nothing: level, bound or fallback.
everywhere([ $primary, @standbys ], q{
CREATE ROLE granted;
CREATE ROLE own_strong LOGIN IN ROLE granted, web;
CREATE ROLE own_eventual LOGIN IN ROLE web;
CREATE ROLE own_bounded LOGIN IN ROLE web;
CREATE ROLE own_here LOGIN IN ROLE web;
CREATE ROLE own_fallback LOGIN IN ROLE granted, pg_read_all_data;
ALTER ROLE own_fallback SET tcs.fallback = error;
CREATE ROLE own_rule LOGIN IN ROLE pg_read_all_data;
ALTER ROLE own_strong SET tcs.read_level = strong;
ALTER ROLE own_eventual SET tcs.read_level = eventual;
ALTER ROLE own_bounded SET tcs.read_level = bounded;
ALTER ROLE own_bounded SET tcs.max_staleness = '1s';
ALTER ROLE own_here IN DATABASE postgres SET tcs.read_level = strong;
ALTER ROLE own_rule SET tcs.read_level = strong;
SELECT tcs.set_rule('plain', 'strong', role => 'granted', fallback => 'eventual');
SELECT tcs.set_rule('drop_box', 'bounded', max_staleness => '5ms', role => 'web');
SELECT tcs.set_rule(role => 'own_rule', level => 'eventual');
});
is(explain($s2, $_->[0], user => $_->[1]) =~ s/ by rule [0-9]+$/ by rule/r, $_->[2], "$_->[1]: $_->[0]")
  foreach (
	[ 'SELECT * FROM pg_largeobject_metadata', 'own_strong', 'strong by role' ],
	[ 'SELECT * FROM pg_largeobject_metadata', 'own_here', 'strong by role_in_database' ],
	[ 'SELECT * FROM pg_largeobject_metadata', 'own_eventual', 'bounded by rule' ],
	[ 'SELECT * FROM account', 'own_strong', 'linearizable by rule' ],
	[ 'SELECT * FROM pg_largeobject_metadata', 'own_rule', 'eventual by rule' ]);
is(read_at($s2, "SELECT $_->[0] FROM tcs.explain_level('SELECT * FROM $_->[1]')", user => $_->[2]), $_->[3],
	"$_->[0] of $_->[1] for $_->[2]")
  foreach (
	[ 'fallback', 'plain', 'own_strong', 'redirect, error' ],
	[ 'fallback', 'plain', 'own_fallback', 'error' ],
	[ 'level', 'plain', 'own_fallback', 'strong' ],
	[ 'max_staleness', 'pg_largeobject_metadata', 'own_bounded', '00:00:01' ],
	[ 'max_staleness', 'drop_box', 'own_bounded', '00:00:00.005' ],
	[ 'max_staleness', 'drop_box', 'own_eventual', '00:00:00.005' ]);
everywhere([ $primary, @standbys ], q{
SELECT tcs.drop_rule('plain', role => 'granted');
SELECT tcs.drop_rule(role => 'own_rule');
});


##
## Groups
##

everywhere([ $primary, @standbys ], q{SELECT tcs.set_group('counters', 'likes', 'mother')});
like(explain($s1, 'SELECT * FROM likes'), qr/^strong by $rule$/, 'one of a group pulls the others up');
is(psql_err($primary, q{SELECT tcs.set_group('other', 'likes')}), '23505', '... and is in no other');
everywhere([ $primary, @standbys ], q{SELECT tcs.drop_group('counters')});
like(explain($s1, 'SELECT * FROM likes'), qr/^eventual by $rule$/, '... until the group is dropped');


##
## What goes, and what changes its name
##

everywhere([ $primary, @standbys ], q{
ALTER TABLE account RENAME TO konto;
ALTER SCHEMA shop RENAME TO laden;
ALTER FUNCTION opaque() RENAME TO undurchsichtig;
});
like(explain($s1, $_->[0]), qr/^$_->[1] by $rule$/, "renamed: $_->[0]")
  foreach (
	[ 'SELECT * FROM konto', 'strong' ],
	[ 'SELECT * FROM laden.cart', 'causal' ],
	[ 'SELECT undurchsichtig()', 'strong' ]);
everywhere([ $primary, @standbys ], q{
DROP TABLE konto CASCADE;
DROP SCHEMA laden CASCADE;
DROP FUNCTION undurchsichtig();
DROP OWNED BY web;
DROP ROLE web;
DROP TABLE part;
});
is( read_at($s1, q{SELECT string_agg(coalesce(relation::text, function, schema, role::text, application_name), ',' ORDER BY id) FROM tcs.rules}),
	'mother,likes,plain,report%',
	'what is dropped takes its rules with it');

done_testing();

# test/t/640_rules_reach.pl
#
# How far rules reach: groups and schemas to partitions, rules for functions to
# all ways in which a function is called, rules for writes to the partition that a
# row is routed to.  On a standby whose replay is paused, what a floor protects must
# not be read by whatever way: refused as behind (TC001), as of unknown freshness
# (TC004: "strong" has no time to ask), or, where it can only be compared, 55000.

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

sub refused_by_rule
{
	my ($sql, $what, %opt) = @_;
	my ($state, $err) = psql_err($standby, $sql, max_wait => 0, %opt);

	like($state, qr/^(TC00[14]|55000)$/, $what // $sql) or diag $err;
	return;
}

everywhere([ $primary, $standby ], q{
CREATE ROLE web LOGIN;
CREATE SCHEMA s;
CREATE TABLE free (v int);
INSERT INTO free VALUES (1);
CREATE TABLE parted (v int) PARTITION BY LIST (v);
CREATE TABLE part1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE part2 PARTITION OF parted FOR VALUES IN (2);
CREATE TABLE child () INHERITS (free);
CREATE TABLE other (v int);
CREATE TABLE s.parted (v int) PARTITION BY LIST (v);
CREATE TABLE outside PARTITION OF s.parted FOR VALUES IN (1);
CREATE TABLE base (v int);
CREATE VIEW over AS SELECT * FROM base;
CREATE MATERIALIZED VIEW stored AS SELECT * FROM free;
GRANT ALL ON ALL TABLES IN SCHEMA public, s TO web;
GRANT USAGE ON SCHEMA s TO web;

CREATE FUNCTION ff() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM free); END';
CREATE FUNCTION ffset() RETURNS SETOF int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN QUERY SELECT v FROM free; END';
CREATE PROCEDURE ffp(INOUT n bigint) LANGUAGE plpgsql AS 'BEGIN n := (SELECT count(*) FROM free); END';
CREATE FUNCTION inlined() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT ff()';
CREATE FUNCTION inlined_set() RETURNS SETOF int LANGUAGE sql STABLE AS 'SELECT * FROM ffset()';
CREATE FUNCTION with_default(n bigint DEFAULT ff()) RETURNS bigint LANGUAGE sql AS 'SELECT n';
CREATE FUNCTION returns_it() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN ff(); END';
CREATE FUNCTION folded() RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN ff(); END';
CREATE FUNCTION guessed(int) RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN ff(); END';
CREATE PROCEDURE commits_it(INOUT n bigint) LANGUAGE plpgsql AS 'BEGIN n := ff(); COMMIT; n := n + ff(); END';
CREATE FUNCTION assigns_it() RETURNS bigint LANGUAGE plpgsql AS 'DECLARE n bigint := ff(); BEGIN RETURN n; END';
CREATE PROCEDURE calls_it(INOUT n bigint) LANGUAGE plpgsql AS 'BEGIN CALL ffp(n); END';
CREATE PROCEDURE takes_it(INOUT n bigint) LANGUAGE plpgsql AS 'BEGIN n := n; END';
CREATE FUNCTION adds_up(n bigint, v int) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN n + (SELECT count(*) FROM free); END';
CREATE AGGREGATE adding (int) (SFUNC = adds_up, STYPE = bigint, INITCOND = '0');
CREATE FUNCTION checks(v int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN v <= (SELECT count(*) FROM free) + 5; END';
CREATE DOMAIN checked AS int CHECK (checks(VALUE));
CREATE FUNCTION writes() RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO other VALUES (1); END';
CREATE PROCEDURE writes_too() LANGUAGE plpgsql AS 'BEGIN INSERT INTO other VALUES (1); END';
});


##
## Groups and schemas, to partitions and children
##

everywhere([ $primary, $standby ], q{
SELECT tcs.set_group('g', 'parted', 'free', 'other', 'over');
SELECT tcs.set_rule('other', 'session', floor => 'session');
SELECT tcs.set_rule(schema => 's', level => 'session', floor => 'session');
});
pause_replay($standby);
my $token = write_token($primary, 'INSERT INTO parted VALUES (1)');

foreach my $table (qw(other parted part1 part2 free child over base s.parted outside))
{
	next if $table eq 'base';
	refused_by_rule("/* tcs(eventual) */ SELECT * FROM $table", "the floor of a group or schema: $table", token => $token);
}
refused_by_rule('COPY outside TO STDOUT', 'the floor of a schema: COPY of a partition elsewhere', token => $token, level => 'eventual');
refused_by_rule('/* tcs(eventual) */ SELECT ff()', "a hint of its caller is not below the floor inside: level $_",
	token => $token, set => { 'tcs.read_level' => $_ }) foreach ('session', 'strong');
is(psql_err($standby, '/* tcs(eventual) */ SELECT * FROM base', token => $token, max_wait => 0), '00000',
	'what a member reads is no member');
resume_replay($standby);

# A level that a member has from elsewhere is one for all.
everywhere([ $primary, $standby ], q{
SELECT tcs.drop_rule(schema => 's'), tcs.drop_rule('other');
SELECT tcs.set_rule('base', 'strong');
SELECT tcs.set_rule('other', 'eventual');
});
is(explain_column($standby, 'level', "SELECT * FROM $_"), 'strong', "pulled up by what another member reads: $_")
  foreach (qw(other part1 child));
everywhere([ $primary, $standby ], q{SELECT tcs.drop_rule('base'); SELECT tcs.set_rule('part1', 'strong')});
is(explain_column($standby, 'level', 'SELECT * FROM other'), 'strong', 'pulled up by the partition of another member');

# Who has written to a member by way of a view, a partition or REFRESH.
everywhere([ $primary, $standby ], q{
SELECT tcs.drop_rule('part1');
SELECT tcs.set_group('g', 'parted', 'over', 'stored', 'other');
SELECT tcs.set_rule(t, 'eventual') FROM unnest('{parted,over,stored}'::regclass[]) AS t;
});
foreach my $write (
	'INSERT INTO over VALUES (1)', 'UPDATE over SET v = 2', 'INSERT INTO part2 VALUES (2)',
	'INSERT INTO parted VALUES (2)', 'REFRESH MATERIALIZED VIEW stored', 'TRUNCATE part2')
{
	is( (split /\n/, read_at($primary, "BEGIN; $write; SELECT * FROM other; SELECT level FROM tcs.last_read; COMMIT"))[-1],
		'session', "after $write the others are read at session");
}
is((split /\n/, read_at($primary, 'SELECT * FROM other; SELECT level FROM tcs.last_read'))[-1],
	'eventual', '... and in the next transaction as before');
is(psql_err($primary, q{SELECT tcs.set_group('h', 'other')}), '23505', 'a member of another group');
like((psql_err($primary, q{SELECT tcs.set_group('h', 'other')}))[1], qr/"other" is in group "g" already/, '... which is named');
everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule, tcs.rule_group');

# What planning reads, or guesses with, is no reason to refuse what can be waited for.
everywhere([ $primary, $standby ], q{
SELECT tcs.set_rule('free', 'session');
CREATE FUNCTION reads_free() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT count(*) FROM free); END';
});
my @planned = (
	'SELECT count(*) FROM free WHERE v <= ff()', 'SELECT count(*) FROM other WHERE v <= ff()',
	'SELECT count(*) FROM free WHERE v <= reads_free()', 'SELECT count(*) FROM free TABLESAMPLE BERNOULLI (ff())', 'SELECT reads_free()');
pause_replay($standby);
$token = write_token($primary, 'INSERT INTO free VALUES (1)');
foreach my $level ('session', 'snapshot')
{
	is(psql_err($standby, $_, level => $level, token => $token, max_wait => 0), 'TC001', "behind at $level: $_") foreach (@planned);
}
{
	my $reader = TcsWire->new($standby);

	$reader->ok_query("SET tcs.max_wait = 0; SET tcs.session_token = '$token'; SET tcs.max_wait = '60s'");
	$reader->simple($planned[0])->flush;
	wait_for_waiters($standby);
	resume_replay($standby);
	is(($reader->results)[0]{state}, '00000', 'the statement waits, and what it was planned with is read again');
}
everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule');

# What planning has run too early is kept in no plan: not in that of the statement,
# and not in that of an expression of a function.
everywhere([ $primary, $standby ], q{
CREATE FUNCTION inner_count() RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT count(*) FROM free); END';
CREATE FUNCTION kept() RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN inner_count(); END';
CREATE FUNCTION kept_ff() RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN ff(); END';
});

# A reader that has seen nothing yet, behind what it has to see; and what that is.
sub reader_behind
{
	my $reader = TcsWire->new($standby);

	pause_replay($standby);
	$token = write_token($primary, 'INSERT INTO free VALUES (1)');
	$reader->ok_query("SET plan_cache_mode = force_generic_plan; SET tcs.session_token = '$token';"
		  . ' SET tcs.max_wait = 0; SET tcs.fallback = error; SET tcs.hints = \'all\'; SET tcs.read_level = eventual');
	return ($reader, $primary->safe_psql('postgres', 'SELECT count(*) FROM free'));
}

sub run_prepared
{
	my ($reader, $name) = @_;

	return $reader->bind('', $name, 1)->execute('')->sync;
}

everywhere([ $primary, $standby ], q{
SELECT tcs.set_rule(function => f, level => 'session', floor => 'session') FROM unnest('{ff(),inner_count()}'::regprocedure[]) AS f});
foreach my $function ('kept', 'kept_ff')
{
	my ($reader, $count) = reader_behind();

	$reader->ok_query("SET tcs.max_wait = '60s'");
	$reader->parse('p', "SELECT $function() WHERE \$1::int > 0")->sync->results;
	run_prepared($reader, 'p')->flush;
	wait_for_waiters($standby);
	resume_replay($standby);
	is(TcsWire::rows_text(($reader->results)[0]), $count, "$function(): waited for");
	is(TcsWire::rows_text((run_prepared($reader, 'p')->results)[0]), $count, '... and not as it was before, later') foreach (1 .. 2);
}
{
	my ($reader, $count) = reader_behind();

	is(($reader->query('SELECT kept(), 1/0'))[0]{state}, 'TC001', 'planning ends before it');
	resume_replay($standby);
	$reader->ok_query("SET tcs.max_wait = '60s'");
	is($reader->ok_query('SELECT kept()'), $count, '... and leaves nothing behind');
}
everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule');

everywhere([ $primary, $standby ], q{SELECT tcs.set_rule('free', 'session', floor => 'session')});
foreach my $sql ('SELECT kept()', '/* tcs(eventual) */ SELECT kept()', '/* tcs(eventual) */ SELECT kept_ff() FROM other')
{
	my ($reader, $count) = reader_behind();

	is(($reader->query($sql))[0]{state}, '55000', "not below the floor of a table: $sql") foreach (1 .. 2);
	resume_replay($standby);
	$reader->ok_query("SET tcs.max_wait = '60s'; BEGIN; COMMIT");
	is($reader->ok_query('SELECT kept()'), $count, '... and served when it is there');
}
everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule');

# The same without any rule, where it is the function that asks for more.
everywhere([ $primary, $standby ], q{
CREATE FUNCTION asks() RETURNS bigint LANGUAGE plpgsql IMMUTABLE SET tcs.read_level = 'session' AS 'BEGIN RETURN (SELECT count(*) FROM free); END';
CREATE FUNCTION calls_asks() RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN asks(); END';
});
foreach my $sql ('SELECT asks()', 'SELECT calls_asks()')
{
	my ($reader, $count) = reader_behind();

	is(($reader->query($sql))[0]{state}, '55000', "not at less than a function asks for: $sql") foreach (1 .. 3);
	resume_replay($standby);
	wait_for_replay($primary, $standby);
	# a refusal notes what is there by now, as it does for what runs when all is planned
	$reader->query($sql);
	is($reader->ok_query($sql), $count, '... and served when it is there');
}
{
	my ($reader) = reader_behind();

	is(($reader->query('SELECT calls_asks(), 1/0 FROM other'))[0]{state}, '55000', 'planning fails there');
	$reader->ok_query('BEGIN ISOLATION LEVEL REPEATABLE READ; COMMIT');
	is(($reader->query('SELECT calls_asks() FROM other'))[0]{state}, '55000', '... and BEGIN does not bring it back');
	resume_replay($standby);
	wait_for_replay($primary, $standby);
}


##
## The floor of a function
##

everywhere([ $primary, $standby ], q{
SELECT tcs.set_rule(function => f, level => 'strong', floor => 'strong')
  FROM unnest('{ff(),ffset(),ffp(bigint),commits_it(bigint),"adds_up(bigint,integer)",checks(integer)}'::regprocedure[]) AS f;
});

# a read that is fresh is served, by most ways also to an eventual caller
is(psql_err($standby, $_, max_wait => '60s'), '00000', "fresh: $_")
  foreach (
	'SELECT ff()', '/* tcs(eventual) */ SELECT ff()', 'SELECT * FROM ffset()', 'CALL ffp(0)', 'SELECT inlined()',
	'SELECT * FROM inlined_set()', 'CALL takes_it(ff())', 'SELECT with_default()', 'EXPLAIN SELECT returns_it()',
	'BEGIN; DECLARE c CURSOR FOR SELECT ff(); FETCH c; COMMIT', 'PREPARE p AS SELECT ff(); EXECUTE p',
	'COPY (SELECT v FROM free) TO STDOUT', 'SELECT folded()', 'CALL commits_it(0)');
is(psql_err($standby, $_, level => 'strong', max_wait => '60s'), '00000', "fresh, and asked for: $_")
  foreach (
	'SELECT returns_it()', 'SELECT assigns_it()', 'CALL calls_it(0)', 'SELECT adding(v) FROM free', 'SELECT 3::checked',
	'DO $$DECLARE n bigint := ff(); BEGIN PERFORM ff(); END$$', 'PREPARE e(bigint) AS SELECT $1; EXECUTE e(ff())');

# planning runs the function, and a statement that writes is planned only once
is(psql_err($primary, $_), '00000', "on the primary: $_")
  foreach (
	'SELECT folded(), guessed(1) FROM free WHERE v <> guessed(7)', 'INSERT INTO other SELECT folded()',
	'UPDATE other SET v = folded() WHERE v <> guessed(7)', 'DELETE FROM other WHERE v <> folded() AND v <> guessed(7)',
	'WITH w AS (INSERT INTO other SELECT folded() RETURNING v) SELECT * FROM w WHERE v = guessed(1)',
	'SELECT v FROM other WHERE v = folded() FOR UPDATE',
	'PREPARE u AS UPDATE other SET v = folded() WHERE v <> guessed(7); EXECUTE u',
	'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT folded(); SELECT folded() FROM free; COMMIT');

pause_replay($standby);
$primary->safe_psql('postgres', 'INSERT INTO free VALUES (2)');
foreach my $sql (
	'SELECT ff()', '/* tcs(eventual) */ SELECT ff()', 'SELECT * FROM ffset()', 'CALL ffp(0)',
	'SELECT inlined()', '/* tcs(eventual) */ SELECT inlined()', 'SELECT * FROM inlined_set()',
	'SELECT with_default()', 'SELECT returns_it()', 'SELECT assigns_it()', 'CALL calls_it(0)', 'CALL takes_it(ff())',
	'PREPARE e(bigint) AS SELECT $1; EXECUTE e(ff())',
	'DO $$DECLARE n bigint := ff(); BEGIN RAISE WARNING \'%\', n; END$$',
	'DO $$BEGIN IF ff() > 0 THEN RAISE WARNING \'served\'; END IF; END$$',
	'DO $$BEGIN PERFORM ff(); END$$', 'SELECT adding(v) FROM free', 'SELECT 3::checked', 'SELECT v::checked FROM free',
	'BEGIN; DECLARE c CURSOR FOR SELECT inlined(); FETCH c; COMMIT', 'COPY (SELECT ff()) TO STDOUT',
	'PREPARE p AS SELECT inlined(); EXECUTE p', 'EXPLAIN ANALYZE SELECT inlined()',
	'SELECT 1 WHERE ff() > 0', 'VALUES (ff())', 'SELECT folded()', 'SELECT folded() FROM free',
	'SELECT folded(), guessed(1) FROM free WHERE v <> guessed(7)', 'SELECT guessed(1) FROM free LIMIT guessed(1)',
	'PREPARE f AS SELECT folded(); EXECUTE f', 'DO $$BEGIN PERFORM folded(); END$$', 'CALL commits_it(0)',
	'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT folded(); COMMIT', 'SELECT v FROM free ORDER BY ff() LIMIT 1')
{
	refused_by_rule($sql, "behind: $sql", level => 'eventual');
}
{
	# a read before must not count for what comes without a statement
	my $client = TcsWire->new($standby, options => '-c tcs.max_wait=0 -c tcs.read_level=eventual');

	$client->ok_query('SELECT * FROM free');
	like(($client->query('SELECT 3::checked'))[-1]{state} // '', qr/^(TC00[14]|55000)$/, 'after another read: a check of a domain');
	$client->disconnect;
}
is(psql_err($standby, 'EXPLAIN SELECT returns_it()', max_wait => 0), '00000', 'EXPLAIN alone runs no function');
{
	# PL/pgSQL keeps its expressions ready for the transaction
	my $client = TcsWire->new($standby, options => '-c tcs.max_wait=60s -c tcs.read_level=eventual');

	resume_replay($standby);
	$client->ok_query('BEGIN');
	$client->ok_query("/* tcs(strong) */ SELECT $_()") foreach ('returns_it', 'assigns_it');
	pause_replay($standby);
	$primary->safe_psql('postgres', 'INSERT INTO free VALUES (2)');
	$client->ok_query('SET LOCAL tcs.max_wait = 0; SAVEPOINT s');
	foreach my $function ('returns_it', 'assigns_it')
	{
		is(($client->query("SELECT $function()"))[-1]{state}, '55000', "a later statement of a block: $function()");
		$client->ok_query('ROLLBACK TO s');
	}
	$client->ok_query('ROLLBACK');
	$client->disconnect;
}
resume_replay($standby);
is(explain_column($standby, 'level', 'SELECT inlined()'), 'strong', 'tcs.explain_level() looks into what is inlined');
everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule');


##
## A cursor goes on with its old snapshot: what was proved since is not for it
##

everywhere([ $primary, $standby ], q{
CREATE TABLE guarded (v int);
CREATE TABLE beside (v int);
CREATE FUNCTION counts() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM guarded); END';
SELECT tcs.set_rule('guarded', 'session', floor => 'session');
SELECT tcs.set_rule('beside', 'session');
});
foreach my $how ('FETCH', 'COMMIT', 'Execute')
{
	my $client = TcsWire->new($standby, options => '-c tcs.read_level=eventual -c tcs.max_wait=60s');

	pause_replay($standby);
	my $later = write_token($primary, 'INSERT INTO guarded VALUES (1)');

	$client->ok_query('BEGIN');
	if ($how ne 'Execute')
	{
		my $hold = $how eq 'COMMIT' ? 'WITH HOLD' : '';

		$client->ok_query("DECLARE c CURSOR $hold FOR SELECT counts() FROM generate_series(1, 3)");
	}
	else
	{
		$client->parse('s', 'SELECT counts() FROM generate_series(1, 3)')->bind('p', 's')->sync->results;
	}
	resume_replay($standby);
	wait_for_replay($primary, $standby);
	$client->ok_query("SET LOCAL tcs.session_token = '$later'");
	$client->ok_query('/* tcs(session) */ SELECT * FROM beside');
	my @results = $how eq 'FETCH' ? $client->query('FETCH ALL FROM c') :
	  $how eq 'COMMIT' ? $client->query('COMMIT') : $client->execute('p')->sync->results;

	is($results[-1]{state}, '55000', "$how of a cursor that is older than what was proved");
	$client->query('ROLLBACK');
	is(($client->query("BEGIN; DECLARE c CURSOR FOR SELECT counts(); FETCH c; COMMIT"))[-1]{state}, '00000',
		'... and without a token there is nothing to miss');
	$client->disconnect;
}
everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule');


##
## COPY of a table below another statement
##

everywhere([ $primary, $standby ], q{SELECT tcs.set_rule('free', 'session', floor => 'session')});
pause_replay($standby);
$token = write_token($primary, 'INSERT INTO free VALUES (3)');
my $file = PostgreSQL::Test::Utils::tempdir() . '/copied';

refused_by_rule("DO \$\$BEGIN COPY free TO '$file'; END\$\$", 'COPY within DO', token => $token, level => 'eventual');
ok(!-e $file, '... has written nothing');
resume_replay($standby);

# Nothing of a COPY is locked when its rules are looked for.  A server with
# assertions ends if a relation is opened without a lock.
everywhere([ $primary, $standby ], 'CREATE VIEW inner_view AS SELECT v FROM free; CREATE VIEW outer_view AS SELECT v FROM inner_view');
pause_replay($standby);
$token = write_token($primary, 'INSERT INTO free VALUES (4)');
refused_by_rule('COPY (SELECT * FROM outer_view) TO STDOUT', 'COPY of a view of a view', token => $token, level => 'eventual');
is(explain_column($standby, 'level', 'COPY (SELECT * FROM outer_view) TO STDOUT', level => 'eventual'), 'session',
	'... explained');
resume_replay($standby);


##
## Bounded floors
##

everywhere([ $primary, $standby ], q{SELECT tcs.set_rule('free', 'strong', floor => 'bounded', max_staleness => '1h', hard => true)});
is(explain_column($standby, "level || ' ' || max_staleness", 'SELECT * FROM free', level => $_), 'bounded 01:00:00',
	"who asks for $_ gets the floor's bound") foreach ('eventual', 'session');
is(explain_column($standby, "level || ' ' || max_staleness", '/* tcs(eventual) */ SELECT * FROM free'), 'bounded 01:00:00',
	'... likewise by a hint');
is(explain_column($standby, "level || ' ' || max_staleness", '/* tcs(bounded, max_staleness=1s) */ SELECT * FROM free'),
	'bounded 00:00:01', 'a closer bound of the client counts');
is(explain_column($standby, "level || ' ' || max_staleness", '/* tcs(bounded, max_staleness=2h) */ SELECT * FROM free'),
	'bounded 01:00:00', '... and a wider one does not');
read_at($standby, q{SELECT tcs.relax('eventual', '1h', 'test')});
is(explain_column($standby, "level || ' ' || max_staleness", 'SELECT * FROM free', level => 'strong'), 'bounded 01:00:00',
	'the emergency valve goes down to a hard floor and its bound');
read_at($standby, 'SELECT tcs.relax_end()');
everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule');


##
## The valve closes, or a rule comes, while a statement runs
##

$primary->safe_psql('postgres', 'CREATE TABLE late (v int)');
everywhere([ $primary, $standby ], q{SELECT tcs.set_rule('free', 'strong')});
pause_replay($standby);
$primary->safe_psql('postgres', 'INSERT INTO free VALUES (4)');
read_at($standby, q{SELECT tcs.relax('eventual', '1h', 'test')});
{
	my ($state, $err) = psql_err($standby,
		'DO $$BEGIN PERFORM count(*) FROM free; PERFORM tcs.relax_end(); PERFORM count(*) FROM free; END$$',
		max_wait => 0, level => 'strong');

	is($state, '00000', 'a statement that began relaxed ends so') or diag $err;
	is(scalar(() = $err =~ /WARNING/g), 1, '... and was told once');
}
refused_by_rule('SELECT * FROM free', 'the next one is not');
resume_replay($standby);

{
	my $client = TcsWire->new($standby, options => '-c tcs.read_level=eventual -c tcs.max_wait=0');

	# the function reads before the rule is there, and after it
	everywhere([ $primary, $standby ], q{
CREATE FUNCTION reads_twice() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	PERFORM count(*) FROM late;
	PERFORM pg_advisory_lock(9), pg_advisory_unlock(9);
	RETURN (SELECT count(*) FROM late);
END$$});
	my $lock = TcsWire->new($standby, options => '-c tcs.read_level=eventual');

	$lock->ok_query('SELECT pg_advisory_lock(9)');
	$client->simple('SELECT reads_twice()')->flush;
	$standby->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", 't');
	everywhere([ $primary, $standby ], q{SELECT tcs.set_rule('late', 'strong', floor => 'strong')});
	$lock->ok_query('SELECT pg_advisory_unlock(9)');
	my @results = $client->results;

	like($results[-1]{state}, qr/^(00000|40001)$/, 'a rule that comes while a function runs is no mistake of the function');
	$_->disconnect foreach ($client, $lock);
}
everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule');


##
## Writes
##

$primary->safe_psql('postgres', q{
CREATE TABLE fk_top (id int PRIMARY KEY);
CREATE TABLE fk_middle (id int PRIMARY KEY REFERENCES fk_top);
CREATE TABLE fk_parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE lower_part PARTITION OF fk_parts FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
CREATE TABLE lowest_part PARTITION OF lower_part FOR VALUES FROM (0) TO (5);
CREATE TABLE fk_low (id int REFERENCES fk_middle, part int REFERENCES fk_parts) PARTITION BY RANGE (id);
CREATE TABLE fk_low1 PARTITION OF fk_low FOR VALUES FROM (0) TO (5);
CREATE TABLE fk_self (id int PRIMARY KEY, up int REFERENCES fk_self);
});
everywhere([ $primary, $standby ], q{
SELECT tcs.set_rule('fk_low1', 'strong', operation => 'write');
SELECT tcs.set_rule('part2', 'strong', operation => 'write');
SELECT tcs.set_rule('stored', 'strong', operation => 'write');
SELECT tcs.set_rule('over', 'strong', operation => 'write');
SELECT tcs.set_rule(function => f, level => 'strong', operation => 'write')
  FROM unnest('{writes(),writes_too()}'::regprocedure[]) AS f;
});
is(psql_err($primary, $_), '55000', "refused without standbys: $_")
  foreach (
	'INSERT INTO part2 VALUES (2)', 'INSERT INTO parted VALUES (2)', 'UPDATE parted SET v = 2 WHERE v = 1',
	q{COPY parted FROM PROGRAM 'echo 2'}, 'REFRESH MATERIALIZED VIEW stored', 'INSERT INTO over VALUES (1)',
	'SELECT writes()', 'CALL writes_too()', 'DO $$BEGIN PERFORM writes(); END$$',
	(map { "TRUNCATE $_ CASCADE" } 'fk_top', 'ONLY fk_top', 'fk_middle', 'fk_parts', 'fk_low', 'fk_self, fk_top'),
	'DO $$BEGIN TRUNCATE fk_top CASCADE; END$$');
is(psql_err($primary, $_), '00000', "not concerned: $_")
  foreach ('INSERT INTO part1 VALUES (1)', 'SELECT * FROM parted', 'INSERT INTO base VALUES (1)', 'SELECT * FROM over FOR UPDATE',
	'TRUNCATE fk_self CASCADE');
is(explain_column($primary, 'write_level', $_->[0]), $_->[1], "tcs.explain_level('$_->[0]'): $_->[1]")
  foreach (
	[ 'INSERT INTO parted VALUES (2)', 'strong' ],
	[ 'WITH x AS (DELETE FROM part2 RETURNING 1) SELECT count(*) FROM x', 'strong' ],
	[ 'TRUNCATE part2', 'strong' ],
	[ 'TRUNCATE fk_top CASCADE', 'strong' ],
	[ 'TRUNCATE fk_top', 'default' ],
	[ 'COPY part2 FROM STDIN', 'strong' ],
	[ 'EXPLAIN ANALYZE INSERT INTO part2 VALUES (2)', 'strong' ],
	[ 'REFRESH MATERIALIZED VIEW stored', 'strong' ],
	[ 'INSERT INTO part1 VALUES (1)', 'default' ],
	[ 'SELECT 1', '' ]);


##
## What is not there
##

is(psql_err($primary, "SELECT tcs.set_rule($_->[0])"), $_->[1], "set_rule($_->[0])")
  foreach (
	[ q{function => 99999999::regprocedure, level => 'strong'}, '42883' ],
	[ q{'free', 'strong', role => 99999999::regrole}, '42704' ]);
is(explain_column($standby, 'level_source', $_), 'exempt', "tcs.explain_level('$_'): exempt") foreach ('SHOW work_mem', 'VACUUM free');
is(psql_err($primary, q{SELECT tcs.drop_rule('free', id => id) FROM tcs.rules WHERE relation = 'part2'::regclass}), '42704',
	'drop_rule() with an id of another relation');


##
## Functions that planning runs
##

# The planner runs a STABLE function to guess how many rows there are.  That a
# function has a rule, any function, must not make a read of that an error.
redirect_to($primary);
everywhere([ $primary, $standby ], q{
CREATE FUNCTION lowest(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT v FROM base WHERE v = $1';
SELECT tcs.set_rule(function => 'returns_it()', level => 'session');
INSERT INTO base VALUES (1);
});
pause_replay($standby);
$token = write_token($primary, 'INSERT INTO base VALUES (2)');
{
	my $sql = 'SELECT count(*) FROM base WHERE v >= lowest(1)';
	my $rows = $primary->safe_psql('postgres', $sql);
	my $client = TcsWire->new($standby,
		options => '-c tcs.max_wait=0 -c tcs.fallback=redirect,error');

	$client->ok_query("PREPARE guessed AS $sql; EXECUTE guessed");
	$client->ok_query("SET tcs.session_token = '$token'");
	is(TcsWire::describe_result(($client->query($sql))[-1]), $rows, 'simple protocol: redirected');
	is(TcsWire::describe_result(($client->extended($sql)->sync->results)[-1]), $rows, 'extended: redirected');
	is(TcsWire::describe_result(($client->query('EXECUTE guessed'))[-1]), $rows, 'EXECUTE: redirected');
	$client->ok_query('SET tcs.fallback = error');
	is(($client->query($sql))[-1]{state}, 'TC001', 'simple protocol: behind');
	is(($client->extended($sql)->sync->results)[-1]{state}, 'TC001', 'extended: behind');
	is(($client->query('EXECUTE guessed'))[-1]{state}, 'TC001', 'EXECUTE: behind');
	is(($client->query("EXPLAIN $sql"))[-1]{state}, '00000', 'EXPLAIN shows the plan there is');
	$client->disconnect;
}
resume_replay($standby);

done_testing();

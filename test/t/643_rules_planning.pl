# test/t/643_rules_planning.pl
#
# Planning runs functions, and some read.  What they ask for is not known before they
# do, and their statement has not waited by then.  So a read that comes too early does
# not take place: a function neither shows a stale row (by a notice), nor remembers it
# for the statement that comes to the gate later.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsRules;
use TcsTest;
use TcsWire;

my ($primary, $standby) = new_pair();
my $v = 0;

# They read once, show what they read, and remember it.
sub remembers
{
	my ($name, $volatility) = @_;

	return qq{
CREATE FUNCTION $name(int DEFAULT 0) RETURNS int LANGUAGE plpgsql $volatility AS \$\$
DECLARE n int;
BEGIN
	IF coalesce(current_setting('my.v', true), '') = '' THEN
		SELECT v INTO n FROM t;
		RAISE WARNING 'read: %', n;
		PERFORM set_config('my.v', n::text, false);
	END IF;
	RETURN current_setting('my.v');
END\$\$;
};
}

everywhere([ $primary, $standby ], join ' ', q{
CREATE TABLE t (v int);
INSERT INTO t VALUES (0);
CREATE TABLE other (v int);
INSERT INTO other VALUES (1);
ANALYZE;
}, remembers('folds', 'IMMUTABLE'), remembers('guesses', 'STABLE'), remembers('looks', 'VOLATILE'), q{
CREATE FUNCTION wraps() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN looks(); END';
CREATE FUNCTION forgives() RETURNS int LANGUAGE plpgsql IMMUTABLE AS
	'BEGIN RETURN folds(); EXCEPTION WHEN OTHERS THEN RETURN -1; END';
CREATE FUNCTION inlined() RETURNS SETOF other LANGUAGE sql STABLE AS 'SELECT * FROM other WHERE v < 2';
CREATE FUNCTION inlined_folds() RETURNS int LANGUAGE sql STABLE AS 'SELECT folds()';
CREATE VIEW over AS SELECT folds() AS v;
CREATE TABLE guarded (v int);
INSERT INTO guarded VALUES (1);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON guarded USING (folds() >= 0);
CREATE ROLE web LOGIN;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO web;
});

# Runs statements on the standby while it lacks a write.  They must be refused, and
# nothing of the old row may be seen or remembered.
sub blind
{
	my ($sql, %opt) = @_;
	my $what = $opt{what} // $sql;
	my $client = TcsWire->new($standby, %{ $opt{connect} // {} },
		options => join ' ', '-c tcs.max_wait=0', map { "-c $_" } @{ $opt{set} // [] });

	$client->parse('p', $opt{parse})->sync->results if $opt{parse};
	pause_replay($standby);
	my $token = write_token($primary, sprintf 'UPDATE t SET v = %d', ++$v);

	$client->ok_query("SET tcs.session_token = '$token'") if $opt{token};
	my @results = ref $sql ? $sql->($client) : $client->query($sql);

	my ($failed) = grep { $_->{state} ne '00000' } @results;

	like($failed ? $failed->{state} : '00000', $opt{state} // qr/^(TC00[14]|55000|25001)$/, "$what: refused");
	is(join(',', map { $_->{M} } $client->notices), '', '... and nothing was read');
	$client->query('ROLLBACK');
	is($client->ok_query(q{SELECT coalesce(current_setting('my.v', true), '')}), '', '... nor remembered');
	resume_replay($standby);
	wait_for_replay($primary, $standby);
	$client->disconnect;
	return;
}


##
## The floor of a table that the statement does not name
##

everywhere([ $primary, $standby ],
	q{SELECT tcs.set_rule('t', 'strong', floor => 'strong', fallback => 'error', hard => true)});
blind($_)
  foreach (
	'SELECT folds()', 'SELECT 1 WHERE folds() >= 0', 'SELECT v FROM other WHERE v > guesses()', 'SELECT wraps()',
	'SELECT v FROM over', 'BEGIN; SELECT folds()', 'SELECT inlined_folds()', 'SELECT * FROM inlined() WHERE folds() >= 0',
	'SELECT v FROM other WHERE v > (SELECT guesses())', '/* tcs(eventual) */ SELECT folds()', 'EXPLAIN SELECT folds()',
	'PREPARE p AS SELECT * FROM inlined() WHERE folds() >= 0; EXECUTE p',
	'BEGIN; DECLARE c CURSOR FOR SELECT * FROM inlined() WHERE folds() >= 0',
	'COPY (SELECT * FROM inlined() WHERE folds() >= 0) TO STDOUT', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT folds()',
	'DO $$BEGIN PERFORM folds(); END$$');
blind('SELECT v FROM guarded', connect => { user => 'web' });
blind(sub { return $_[0]->extended('SELECT folds() WHERE $1::int > 0', 1)->sync->results }, what => 'extended protocol');
blind(sub { return $_[0]->bind('', 'p', 1)->execute('')->sync->results },
	what => 'a generic plan', set => ['plan_cache_mode=force_generic_plan'], parse => 'SELECT v + folds() FROM other WHERE v <> $1');
blind('SELECT forgives()', what => 'a function that catches the error', state => qr/^(00000|TC00[14]|55000)$/);
blind(q{SELECT level FROM tcs.explain_level('SELECT * FROM inlined() WHERE folds() >= 0')},
	what => 'tcs.explain_level()', state => qr/^00000$/);

# a function that reads more than once is refused each time, and served when all is there
{
	my $client = TcsWire->new($standby, options => '-c tcs.max_wait=0');

	pause_replay($standby);
	$primary->safe_psql('postgres', sprintf 'UPDATE t SET v = %d', ++$v);
	is(($client->query('SELECT folds()'))[0]{state}, '55000', "SELECT folds(), time $_") foreach (1 .. 3);
	resume_replay($standby);
	wait_for_replay($primary, $standby);
	$client->ok_query(q{SET tcs.max_wait = '60s'});
	is($client->ok_query('/* tcs(strong) */ SELECT folds()'), $v, '... and with a level of its own it waits');
	$client->disconnect;
}
everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule');


##
## What the statement itself asks for, by a setting or a hint
##

foreach my $sql ('SELECT folds()', 'SELECT v FROM other WHERE v > guesses()', 'SELECT v FROM other WHERE guesses(1) = v')
{
	blind($sql, set => ['tcs.read_level=strong'], what => "strong: $sql");
	blind($sql, token => 1, what => "token: $sql");
	blind("/* tcs(strong) */ $sql");
	blind($sql, set => [ 'tcs.read_level=strong', 'default_transaction_isolation=repeatable\\ read' ],
		what => "strong, REPEATABLE READ: $sql");
	blind($sql, set => ['tcs.read_level=snapshot'], token => 1, what => "snapshot: $sql");
}

# it waits, and is planned with what it has waited for
foreach my $way (
	[ 'simple protocol', sub { $_[0]->simple('SELECT v + guesses() FROM other WHERE v <> guesses()') } ],
	[ 'extended protocol', sub { $_[0]->extended('SELECT v + guesses() FROM other WHERE v <> guesses($1)', 1)->sync } ],
	[ 'a generic plan', sub { $_[0]->bind('', 'p')->execute('')->sync } ],
	[ 'a block', sub { $_[0]->query('BEGIN'); $_[0]->simple('SELECT v + guesses() FROM other WHERE v <> guesses()') } ])
{
	my ($name, $start) = @$way;

	# BEGIN would wait for a token
	foreach my $level ('strong', $name eq 'a block' ? () : 'session')
	{
		my $client = TcsWire->new($standby,
			options => "-c tcs.max_wait=60s -c tcs.read_level=$level -c plan_cache_mode=force_generic_plan");

		$client->parse('p', 'SELECT v + guesses() FROM other WHERE v <> guesses()')->sync->results;
		pause_replay($standby);
		my $token = write_token($primary, sprintf 'UPDATE t SET v = %d', ++$v);

		$client->ok_query("SET tcs.session_token = '$token'") if $level eq 'session';
		$start->($client)->flush;
		wait_for_waiters($standby);
		resume_replay($standby);
		is(TcsWire::describe_result(($client->results)[-1]), $v + 1, "$name, $level: waited for");
		is(join(',', map { $_->{M} } $client->notices), "read: $v", '... and read once, then');
		is($client->ok_query(q{SELECT outcome FROM tcs.last_read}), 'waited', '... which tcs.last_read tells');
		$client->ok_query(q{SET my.v = ''});
		$start->($client)->flush;
		is(TcsWire::describe_result(($client->results)[-1]), $v + 1, '... and again');
		$client->disconnect;
	}
}

# Where planning waits, tcs.last_read has that wait.
foreach my $level ('session', 'strong')
{
	my $client = TcsWire->new($standby, options => "-c tcs.max_wait=60s -c tcs.read_level=$level");

	pause_replay($standby);
	my $token = write_token($primary, sprintf 'UPDATE t SET v = %d', ++$v);

	$client->ok_query("SET tcs.session_token = '$token'") if $level eq 'session';
	$client->simple('SELECT folds()')->flush;
	wait_for_waiters($standby);
	my $waiting = time;

	$primary->safe_psql('postgres', 'SELECT 1') foreach (1 .. 3);
	my $waited = time - $waiting;

	resume_replay($standby);
	is(TcsWire::describe_result(($client->results)[-1]), $v, "planning waits at $level");
	is($client->ok_query("SELECT outcome, wait_time >= 1000 * $waited FROM tcs.last_read"), 'waited|t',
		'... which is told as what the statement has waited');
	$client->disconnect;
}


##
## The rule of a function that another one calls
##

everywhere([ $primary, $standby ], q{SELECT tcs.set_rule(function => 'looks(int)', level => 'strong', floor => 'strong', fallback => 'error')});
blind($_, set => ['tcs.read_level=eventual'])
  foreach ('SELECT wraps()', 'SELECT v FROM other WHERE v <> wraps()', 'SELECT * FROM inlined() WHERE wraps() >= 0',
	'PREPARE p AS SELECT * FROM inlined() WHERE wraps() >= 0; EXECUTE p');
{
	my $client = TcsWire->new($standby, options => '-c tcs.max_wait=60s -c tcs.read_level=eventual');

	pause_replay($standby);
	$primary->safe_psql('postgres', sprintf 'UPDATE t SET v = %d', ++$v);
	$client->simple('SELECT wraps() FROM inlined()')->flush;
	wait_for_waiters($standby);
	resume_replay($standby);
	is(TcsWire::describe_result(($client->results)[-1]), $v, 'its caller waits');
	is(join(',', map { $_->{M} } $client->notices), "read: $v", '... and reads then');
	$client->disconnect;
}
everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule');


##
## Redirected, it is the primary that runs the function
##

redirect_to($primary);
foreach my $sql ('SELECT folds()', 'SELECT v + guesses() - 1 FROM other WHERE v <> guesses(1) - 1')
{
	my $client = TcsWire->new($standby, options => '-c tcs.max_wait=0 -c tcs.fallback=redirect,error');

	pause_replay($standby);
	my $token = write_token($primary, sprintf 'UPDATE t SET v = %d', $v += 10);

	$client->ok_query("SET tcs.session_token = '$token'");
	my ($result) = $client->query($sql);

	like(TcsWire::describe_result($result), qr/^(?:$v|0A000.*)$/, "redirected: $sql");
	unlike(join(',', map { $_->{M} } $client->notices), qr/read: (?!$v\b)/, '... and nothing is read here');
	is($client->ok_query(q{SELECT coalesce(current_setting('my.v', true), '')}), '', '... nor remembered');
	resume_replay($standby);
	wait_for_replay($primary, $standby);
	$client->disconnect;
}


##
## What is planned again has the columns that the query has
##

everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule');
everywhere([ $primary, $standby ], q{CREATE FUNCTION padded(x anyelement, y anyelement DEFAULT NULL) RETURNS anyelement LANGUAGE sql AS 'SELECT x'});
is( read_at($standby,
		q{SELECT count(*), coalesce('a'::varchar(3), 'bb'::varchar(4)) FROM other WHERE v <> guesses()},
		level => 'strong', max_wait => '60s'),
	'1|a', 'planning narrows down a column');
everywhere([ $primary, $standby ], q{SELECT tcs.set_rule('other', 'strong')});
is(read_at($standby, 'SELECT padded(v), padded(y => v, x => v) FROM other WHERE v <> guesses()', max_wait => '60s'),
	'1|1', 'a call with defaults and names');
everywhere([ $primary, $standby ], 'TRUNCATE tcs.rule');


##
## A primary without a quorum
##

everywhere([ $primary, $standby ], q{SELECT tcs.set_rule('t', 'linearizable', floor => 'linearizable', fallback => 'error', hard => true)});
foreach my $sql ('SELECT folds()', 'SELECT v FROM other WHERE v > guesses()', 'SELECT * FROM inlined() WHERE folds() >= 0')
{
	my $client = TcsWire->new($primary);

	is(($client->query($sql))[0]{state}, '55000', "linearizable, no quorum: $sql");
	is(join(',', map { $_->{M} } $client->notices), '', '... and nothing was read');
	$client->disconnect;
}

done_testing();

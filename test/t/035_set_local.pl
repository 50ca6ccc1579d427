# test/t/035_set_local.pl
#
# SET LOCAL of a setting of tcs that comes to nothing is an error (25P01), where
# core only warns: the next read would go without what was asked for.  Where SET
# LOCAL binds another statement, nothing changes: in a block, in a message of
# several statements, in a pipeline, in functions.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use TcsTest;
use TcsWire;

my ($primary, $standby) = new_pair();

$primary->safe_psql('postgres', q{
CREATE TABLE t (v int);
INSERT INTO t VALUES (1);
CREATE FUNCTION level_inside() RETURNS text LANGUAGE plpgsql
	AS $$BEGIN SET LOCAL tcs.read_level = 'strong'; RETURN current_setting('tcs.read_level'); END$$;
CREATE PROCEDURE no_effect() LANGUAGE plpgsql
	AS $$BEGIN SET LOCAL tcs.read_level = 'strong'; COMMIT; END$$;
});

my $token = write_token($primary, 'UPDATE t SET v = 2');

wait_for_replay($primary, $standby);

my $set = q{SET LOCAL tcs.read_level = 'strong'};
my $show = q{SELECT current_setting('tcs.read_level') FROM t};

# "state, state: last value" of the results
sub states_and_value
{
	my (@results) = @_;
	my $value = @results ? $results[-1]{rows}[0][0] : undef;

	return join(', ', map { $_->{state} } @results)
	  . (defined $value ? ": $value" : '');
}

foreach my $node ($primary, $standby)
{
	my $name = $node->name;
	my $c = TcsWire->new($node);

	# nothing to bind
	foreach my $sql ($set, "$set;", 'SET LOCAL tcs.read_level TO DEFAULT',
		"SET LOCAL tcs.session_token = '$token'", q{SET LOCAL TCS.max_wait = '1h'},
		'SET LOCAL tcs.write_level = strong')
	{
		is(states_and_value($c->query($sql)), '25P01', "$name: $sql");
		is(states_and_value($c->extended($sql)->sync->results),
			'00000, 25P01', "$name: the same in the extended protocol");
	}
	is(states_and_value($c->extended($set)->close_object('P', '')->sync->results),
		'00000, 25P01', "$name: its portal is closed");
	is(states_and_value($c->extended($set)->extended(q{SET LOCAL statement_timeout = '1h'})->sync->results),
		'00000, 00000, 25P01', "$name: nothing but SET LOCAL in a pipeline");
	is(states_and_value($c->extended($set)->extended('COMMIT')->sync->results),
		'00000, 25P01', "$name: COMMIT behind it");

	my ($refused) = $c->query(q{SET LOCAL tcs.read_level = 'strong'});

	is($refused->{error}{M},
		'SET LOCAL of "tcs.read_level" has no effect outside a transaction block',
		"$name: the message");
	is($refused->{error}{H}, 'Use BEGIN before it, or SET without LOCAL.', "$name: the hint");
	is($c->status, 'I', "$name: the session goes on");
	is(states_and_value($c->query($show)), '00000: session', "$name: at its own level");

	# other settings are core's business
	is(states_and_value($c->query(q{SET LOCAL work_mem = '1MB'})), '00000', "$name: another setting");

	# it binds something
	is(states_and_value($c->query("BEGIN; $set; $show; COMMIT; $show")),
		'00000, 00000, 00000, 00000, 00000: session', "$name: a block");
	is(states_and_value($c->query('BEGIN'), $c->query($set), $c->query($show)),
		'00000, 00000, 00000: strong', "$name: a block, message by message");
	is(states_and_value($c->query('COMMIT')), '00000', "$name: its end");
	is(states_and_value($c->query('BEGIN'), $c->query($set), $c->query('COMMIT')),
		'00000, 00000, 00000', "$name: a block with nothing else");
	is(states_and_value($c->query("$set; $show")), '00000, 00000: strong', "$name: one message");
	is(states_and_value($c->extended($set)->extended($show)->sync->results),
		'00000, 00000: strong', "$name: a pipeline");
	is(states_and_value($c->extended($set)->extended('SHOW tcs.read_level')->sync->results),
		'00000, 00000: strong', "$name: a pipeline with SHOW");
	is(states_and_value($c->extended($set)->extended('BEGIN')->sync->results, $c->query($show)),
		'00000, 00000, 00000: strong', "$name: a block that begins behind it");
	is(states_and_value($c->query('ROLLBACK')), '00000', "$name: its end");
	is(states_and_value($c->query('SELECT level_inside()')), '00000: strong', "$name: a function");
	is(states_and_value($c->query(q{DO $$BEGIN SET LOCAL tcs.read_level = 'strong'; END$$})), '00000',
		"$name: DO");
	is(states_and_value($c->query('CALL no_effect()')), '00000', "$name: a procedure");
	is(states_and_value($c->query(q{SELECT set_config('tcs.read_level', 'strong', true)})),
		'00000: strong', "$name: set_config() as such");

	# an error before the end takes the mark with it
	is(states_and_value($c->extended($set)->extended('SELECT 1/0')->sync->results),
		'00000, 22012', "$name: an error in the pipeline");
	is(states_and_value($c->query('SELECT 1')), '00000: 1', "$name: and the next statement");
	$c->disconnect;
}

# Switched off, it is core's warning again.
$standby->append_conf('postgresql.conf', 'tcs.enabled = off');
$standby->reload;
$standby->poll_query_until('postgres', 'SHOW tcs.enabled', 'off') or die 'not switched off';
is(states_and_value(TcsWire->new($standby)->query($set)), '00000', 'switched off');

done_testing();

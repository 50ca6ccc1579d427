# test/perl/TcsLagging.pm
#
# A primary and a standby whose replay stands still when a test says so, and one
# client at a time whose statements wait for it, or do not.
#
# lagging_nodes() fills the variables: nodes $primary and $standby; $writer, a
# client of the primary, and $look, one of the standby at level eventual; $c, the
# client whose statements are tested; $v, the value of the last write to table t,
# and $token, its token.

package TcsLagging;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsResults;
use TcsTest;
use TcsWire;
use TcsWrites;

our @EXPORT = qw($primary $standby $writer $look $v $token $c $read lagging_nodes
  fall_behind move_on catch_up set_token fresh_client waits at_once run);

our ($primary, $standby, $writer, $look, $token, $c);
our $v = 0;
our $read = 'SELECT v FROM t';

my $write_next = counted_write(\$v, 'UPDATE t SET v = %d');

# Returns when the standby has all and an answer of the primary.
sub lagging_nodes
{
	($primary, $standby) = new_pair();
	$writer = TcsWire->new($primary);
	$look = TcsWire->new($standby, options => '-c tcs.read_level=eventual');

	$writer->ok_query(
		q{
CREATE TABLE t (v int);
INSERT INTO t VALUES (0);
CREATE FUNCTION f_fails(how text) RETURNS int LANGUAGE plpgsql
	AS $$BEGIN
		IF how = 'division' THEN RETURN 1 / 0; END IF;
		IF how = 'raise' THEN RAISE EXCEPTION 'raised'; END IF;
		IF how = 'sql' THEN EXECUTE 'SELECT 1 / v * 0 FROM t WHERE 1 / (v - v) = 1'; END IF;
		IF how = 'caught' THEN
			BEGIN
				EXECUTE 'SELECT 1 / (v - v) FROM t';
			EXCEPTION WHEN division_by_zero THEN
				NULL;
			END;
		END IF;
		RETURN f_fails('sql');
	END$$;
CREATE FUNCTION f_immutable() RETURNS int LANGUAGE plpgsql IMMUTABLE
	AS 'BEGIN RETURN (SELECT v FROM t); END';
CREATE FUNCTION f_stable() RETURNS int LANGUAGE plpgsql STABLE
	AS 'BEGIN RETURN (SELECT v FROM t); END';
CREATE FUNCTION f_inlined() RETURNS int LANGUAGE sql STABLE
	AS 'SELECT v FROM t';
CREATE PROCEDURE p_commits(INOUT before int, INOUT after int) LANGUAGE plpgsql
	AS $$BEGIN
		before := (SELECT v FROM t);
		COMMIT;
		after := (SELECT v FROM t);
	END$$;
CREATE PROCEDURE p_sets(INOUT before int, INOUT after int, token text) LANGUAGE plpgsql
	AS $$BEGIN
		before := (SELECT v FROM t);
		COMMIT;
		PERFORM set_config('tcs.session_token', token, false);
		after := (SELECT v FROM t);
	END$$;
});

	move_on();
	wait_for_answer($standby);
	return;
}

# A write that the standby does not replay.
sub fall_behind
{
	$look->stop_replay;
	$token = $write_next->($writer);
	return;
}

# A write that the standby has replayed when this returns, though the client's snapshot may not
# have it.
sub move_on
{
	$token = $write_next->($writer);
	catch_up();
	return;
}

# Lets replay go on, and waits until it has all that is flushed.
sub catch_up
{
	my $lsn = $writer->ok_query('SELECT pg_current_wal_flush_lsn()');

	$look->go_on;
	$look->poll("SELECT pg_last_wal_replay_lsn() >= '$lsn'")
	  or die 'the standby did not catch up';
	return;
}

# SQL that sets the token of the last write.
sub set_token { return "SET tcs.session_token = '$token'"; }

# Puts a client without settings in $c.
sub fresh_client
{
	my ($options) = @_;

	$c->disconnect if $c;
	$c = TcsWire->new($standby, options => '-c tcs.max_wait=-1 ' . ($options // ''));
	return;
}

# A check: the statement of $c waits, replay goes on, and this comes out.
sub waits
{
	my ($sql, $expected, $name) = @_;
	my $held;
	my $got = outcome($look->release($c, $sql, \$held));

	is(($held ? 'waited' : 'not held') . ": $got", "waited: $expected", $name);
	return;
}

# A check: the statement of $c does not wait, and this comes out.
sub at_once
{
	my ($sql, $expected, $name) = @_;

	is(outcome($look->unheld($c, $sql)), $expected, $name);
	return;
}

# Statements that have to succeed for what comes next to mean anything.
sub run
{
	foreach my $sql (@_)
	{
		my ($failed) = grep { $_->{state} ne '00000' } $c->query($sql);

		fail("$sql: " . TcsWire::describe_result($failed)) if $failed;
	}
	return;
}

1;

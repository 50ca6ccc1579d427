# test/perl/TcsWays.pm
#
# Ways to read and to write, as a table, and what runs them; TcsFailures.pm has the
# ways to fail.  A way has:
#
#   name
#   sql       statements, each a message of its own; or
#   run       code that gets the session and returns the results
#   plain     no hint can be written there
#   inside    it can be done within a block
#
# In all SQL, {t} stands for the table, {h} for the hint that a read needs, {w} for
# that of a write, {e} for one that lets a statement pass at once, {now} for the
# value that is not stale.
#
# A session is a hash: c (the TcsWire), other (one to the same server, for locks
# and cancels), oid (of functions, by name), fill (replaces what is in braces).

package TcsWays;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(way_objects prepare_session run_steps fill error_states leave_block
  reads writes_of_level);

# What the statements below need.
my $objects = <<'SQL';
CREATE TABLE t (a int PRIMARY KEY, v int);
INSERT INTO t VALUES (1, 0);
CREATE TABLE w (a int);
CREATE TABLE parts (k int, v int) PARTITION BY LIST (k);
CREATE TABLE parts1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts2 PARTITION OF parts FOR VALUES IN (2);
CREATE TABLE forbidden (a int);
CREATE ROLE nobody_special;
GRANT SELECT ON t TO nobody_special;

CREATE FUNCTION fails() RETURNS int LANGUAGE plpgsql AS $$
	BEGIN RAISE EXCEPTION 'failed'; END $$;
CREATE FUNCTION fails_stable() RETURNS int LANGUAGE plpgsql STABLE AS $$
	BEGIN RAISE EXCEPTION 'failed'; END $$;
CREATE FUNCTION fails_planned() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN RAISE EXCEPTION 'failed'; END $$;
CREATE FUNCTION fails_planned(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN RAISE EXCEPTION 'failed'; END $$;
CREATE FUNCTION fails_in_sql() RETURNS int LANGUAGE sql AS 'SELECT 1 / (a - a) FROM t';
CREATE FUNCTION sleeps_planned() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN PERFORM pg_sleep(60); RETURN 1; END $$;
CREATE FUNCTION reads() RETURNS int LANGUAGE plpgsql AS $$
	BEGIN RETURN (SELECT v FROM t); END $$;
CREATE FUNCTION lies() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN RETURN (SELECT v FROM t); END $$;
CREATE FUNCTION reads_by_do() RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE 'DO $d$ BEGIN PERFORM v FROM t; END $d$';
		RETURN (SELECT v FROM t);
	END $$;
CREATE FUNCTION catches() RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM fails();
	EXCEPTION WHEN OTHERS THEN RETURN 1;
	END $$;
CREATE FUNCTION catches_planned() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		BEGIN
			PERFORM fails();
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
		RETURN 1;
	END $$;
CREATE FUNCTION catches_planned_and_plans() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	DECLARE n int;
	BEGIN
		BEGIN
			PERFORM fails();
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
		EXECUTE '/* tcs(eventual) */ SELECT catches_planned() + a FROM t' INTO n;
		EXECUTE 'SELECT lies() - lies() + ' || n INTO n;
		RETURN n;
	END $$;
CREATE FUNCTION catches_planned_and_fails() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		BEGIN
			PERFORM fails();
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
		RETURN fails();
	END $$;
CREATE FUNCTION catches_dynamic(sql text) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. 3 LOOP
			BEGIN
				EXECUTE sql;
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END LOOP;
		RETURN 1;
	END $$;
CREATE FUNCTION catches_planned_dynamic(sql text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		RETURN catches_dynamic(sql);
	END $$;
CREATE FUNCTION catches_deep(n int) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF n = 0 THEN
			RETURN fails();
		END IF;
		BEGIN
			PERFORM catches_deep(n - 1);
			RETURN fails();
		EXCEPTION WHEN OTHERS THEN RETURN 1;
		END;
	END $$;
CREATE FUNCTION catches_in_cursor() RETURNS int LANGUAGE plpgsql AS $$
	DECLARE
		c CURSOR FOR SELECT 1 / (3 - g) FROM generate_series(1, 3) g, t;
		n int;
	BEGIN
		OPEN c;
		FOR i IN 1 .. 3 LOOP
			BEGIN
				FETCH c INTO n;
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END LOOP;
		RETURN 1;
	END $$;
CREATE FUNCTION catches_refusal() RETURNS int LANGUAGE plpgsql
	SET tcs.read_level = 'linearizable' SET tcs.max_wait = 0 AS $$
	BEGIN
		RETURN (SELECT v FROM t);
	EXCEPTION WHEN OTHERS THEN RETURN 1;
	END $$;
CREATE FUNCTION handler_fails() RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM fails();
	EXCEPTION WHEN OTHERS THEN
		BEGIN
			PERFORM 1 / 0;
		EXCEPTION WHEN OTHERS THEN
			RETURN fails();
		END;
	END $$;
CREATE FUNCTION recurses() RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE 'SELECT recurses()';
		RETURN 1;
	END $$;
CREATE FUNCTION row_of(g int) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF g = 3 THEN
			RAISE EXCEPTION 'failed';
		END IF;
		RETURN g;
	END $$;
CREATE DOMAIN looked_up AS int CHECK (VALUE = reads());
CREATE DOMAIN refused AS text CHECK (fails() IS NOT NULL);
CREATE DOMAIN caught AS text CHECK (catches() IS NOT NULL);

CREATE PROCEDURE reads_by_call(INOUT n int) LANGUAGE plpgsql AS $$
	BEGIN n := (SELECT v FROM t); END $$;
CREATE PROCEDURE fails_by_call() LANGUAGE plpgsql AS $$
	BEGIN PERFORM 1 / (v - v) FROM t; END $$;
CREATE PROCEDURE commits_and_fails() LANGUAGE plpgsql AS $$
	BEGIN COMMIT; PERFORM fails(); END $$;
CREATE PROCEDURE rolls_back_and_fails() LANGUAGE plpgsql AS $$
	BEGIN ROLLBACK; PERFORM fails(); END $$;
CREATE PROCEDURE catches_and_ends(how text) LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN
			PERFORM fails();
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
		IF how = 'commit' THEN
			COMMIT;
		ELSE
			ROLLBACK;
		END IF;
		BEGIN
			PERFORM fails();
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
		ROLLBACK;
		PERFORM fails();
	END $$;
CREATE PROCEDURE ends_in_handler() LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM fails();
	EXCEPTION WHEN OTHERS THEN COMMIT;
	END $$;
CREATE PROCEDURE calls_and_fails() LANGUAGE plpgsql AS $$
	BEGIN
		CALL catches_and_ends('commit');
	END $$;

CREATE TABLE d (a int, u int UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION looks_late() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.a = 1 THEN
			PERFORM fails();
		ELSIF NEW.a = 2 THEN
			PERFORM catches();
			PERFORM catches_dynamic('ROLLBACK TO nosuch');
			PERFORM fails();
		ELSIF NEW.a = 3 THEN
			PERFORM catches();
			EXECUTE 'CREATE TEMP TABLE late ON COMMIT DROP AS SELECT 1 / 0 AS a';
		ELSIF NEW.a = 4 THEN
			PERFORM pg_sleep(60);
		END IF;
		RETURN NULL;
	END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON d
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION looks_late();
SQL

sub way_objects { return $objects; }


##
## Running them
##

# SQL with what is in braces replaced.
sub fill
{
	my ($s, $sql) = @_;

	$sql =~ s/\{(\w+)\}/$s->{fill}{$1} \/\/ die "what is {$1}?"/ge;
	return $sql;
}

# The results of a way; $by: simple, extended, or pipeline, which has one Sync at
# its end.
sub run_steps
{
	my ($s, $way, $by) = @_;
	my ($c, @results) = $s->{c};

	return $way->{run}->($s) if $way->{run};
	$by //= 'simple';
	foreach my $sql (map { fill($s, $_) } @{ $way->{sql} })
	{
		if ($by eq 'simple')
		{
			push @results, $c->query($sql);
			next;
		}
		$c->extended($sql);
		push @results, $c->sync->results if $by eq 'extended';
	}
	push @results, $c->sync->results if $by eq 'pipeline';
	return @results;
}

sub error_states
{
	return join ' ', grep { $_ ne '00000' } map { $_->{state} } @_;
}

# What a session needs that all this is done in.
sub prepare_session
{
	my ($s) = @_;
	my %prepared = (
		named => '{h} SELECT v FROM {t}',
		named_write => '{w} INSERT INTO w VALUES (1)',
		z_run => '{e} SELECT 1 / (a - a) FROM {t}',
		z_planning => '{e} SELECT fails_planned() FROM {t}',
		z_parameter => '{e} SELECT 1 FROM {t} WHERE a = $1::int',
		z_cancel => '{e} SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)');

	$s->{c}->parse($_, fill($s, $prepared{$_})) foreach (sort keys %prepared);
	$s->{c}->sync->results;
	return;
}

# Out of any block, by a statement that does not come to the gate.
sub leave_block
{
	my ($c) = @_;

	$c->query('ROLLBACK') if $c->status ne 'I';
	return;
}

##
## Ways to read
##

# As a table: name => statements.
sub _reads_by_sql
{
	my @table = (
		'simple' => ['{h} SELECT v FROM {t}'],
		'behind another' => ['SELECT pg_backend_pid() < 0; {h} SELECT v FROM {t}'],
		'function' => ['{h} SELECT reads() FROM {t}'],
		'planning' => ['{h} SELECT lies() FROM {t}'],
		'EXECUTE' => ['{h} EXECUTE named'],
		'DECLARE' =>
		  [ 'BEGIN', '{h} DECLARE c CURSOR FOR SELECT v FROM {t}', 'FETCH ALL FROM c', 'COMMIT' ],
		'WITH HOLD' => ['{h} DECLARE h CURSOR WITH HOLD FOR SELECT v FROM {t}', 'FETCH ALL FROM h', 'CLOSE h'],
		'block' => [ 'BEGIN', '{h} SELECT v FROM {t}', 'COMMIT' ],
		'REPEATABLE READ' =>
		  [ 'BEGIN ISOLATION LEVEL REPEATABLE READ', '{h} SELECT v FROM {t}', 'COMMIT' ],
		'AND CHAIN' => [ 'BEGIN', 'COMMIT AND CHAIN', '{h} SELECT v FROM {t}', 'COMMIT' ],
		'COPY' => ['{h} COPY (SELECT v FROM {t}) TO STDOUT'],
		'EXPLAIN ANALYZE' => ['{h} EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT v FROM {t}'],
		'CALL' => ['{h} CALL reads_by_call(NULL)'],
		'DO' => ["{h} DO \$\$ BEGIN IF (SELECT v FROM {t}) <> {now} THEN RAISE SQLSTATE 'STALE'; END IF; END \$\$"]);
	my @ways;

	while (my ($name, $sql) = splice(@table, 0, 2))
	{
		push @ways, { name => $name, sql => $sql, inside => @$sql == 1 && $name !~ /HOLD/ };
	}
	return @ways;
}

sub reads
{
	my $select = '{h} SELECT v FROM {t}';

	return (
		_reads_by_sql(),
		{
			name => 'extended',
			inside => 1,
			run => sub {
				my ($s) = @_;
				$s->{c}->parse('', fill($s, "$select WHERE a = \$1::int"))->bind('', '', 1);
				$s->{c}->describe('P', '')->execute('')->sync->results;
			}
		},
		{
			name => 'prepared',
			inside => 1,
			run => sub { $_[0]{c}->bind('', 'named')->execute('')->sync->results; }
		},
		{
			name => 'portal row by row',
			inside => 1,
			run => sub {
				my ($s) = @_;
				$s->{c}->parse('', fill($s, "$select, generate_series(1, 3)"))->bind('p', '');
				$s->{c}->execute('p', 1) foreach (1 .. 3);
				$s->{c}->sync->results;
			}
		},
		{
			name => 'function call',
			inside => 1,
			plain => 1,
			run => sub { $_[0]{c}->call($_[0]{oid}{reads})->results; }
		},
		{
			name => 'function call with DO',
			inside => 1,
			plain => 1,
			run => sub { $_[0]{c}->call($_[0]{oid}{reads_by_do})->results; }
		},
		{
			name => 'parameter of Bind',
			inside => 1,
			plain => 1,
			run => sub { $_[0]{c}->extended('SELECT $1::looked_up', $_[0]{fill}{now})->sync->results; }
		});
}

# Ways to write at a level that cannot be had; in all of them {w} is the hint.
sub writes_of_level
{
	return (
		{ name => 'simple', sql => ['{w} INSERT INTO w VALUES (1)'] },
		{ name => 'behind another', sql => ['SELECT 1; {w} INSERT INTO w VALUES (1)'] },
		{ name => 'block', sql => [ 'BEGIN', '{w} INSERT INTO w VALUES (1)', 'COMMIT' ] },
		{ name => 'CTE', sql => ['{w} WITH i AS (INSERT INTO w VALUES (1) RETURNING a) SELECT a FROM i'] },
		{ name => 'TRUNCATE', sql => ['{w} TRUNCATE w'] },
		{ name => 'SET LOCAL', sql => [ 'BEGIN', 'SET LOCAL tcs.write_level = quorum', 'INSERT INTO w VALUES (1)', 'COMMIT' ] },
		{
			name => 'extended',
			run => sub { $_[0]{c}->extended(fill($_[0], '{w} INSERT INTO w VALUES ($1)'), 1)->sync->results; }
		},
		{
			name => 'prepared',
			run => sub { $_[0]{c}->bind('', 'named_write')->execute('')->sync->results; }
		},
		{
			name => 'COPY',
			run => sub {
				my ($s) = @_;
				$s->{c}->simple(fill($s, '{w} COPY w FROM STDIN'))->copy_data("1\n")->copy_done->results;
			}
		});
}

1;

# test/t/505_redirect_text.pl
#
# Values that travel as text between primary and standby, under settings of the
# client with which input does not undo output: time zones with ambiguous names,
# styles of dates and intervals, few digits, array_nulls, xmloption.  A redirected
# statement tells its client what the primary itself would tell, in text and in
# binary; what cannot be brought back so is an error, and never another value.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsRedirect;
use TcsTest;
use TcsTranscript;

my ($primary, $standby) = new_pair(init => { extra => [ "--encoding=UTF8", "--locale=C" ] });

$primary->safe_psql(
	'postgres', q{
CREATE TABLE parts (
	name regclass, at timestamptz, local timestamp, day date, took interval,
	words text[], amount float8, small float4, price money, raw bytea, doc xml);
CREATE TABLE whole (p parts, ps parts[]);
CREATE TYPE named_range AS RANGE (subtype = regclass);
CREATE TABLE one (v int);
CREATE TABLE old_one (v int);
CREATE TABLE called (name regclass, other regclass, same regclass);
CREATE VIEW of_function AS SELECT proargtypes::regtype[] AS types,
	(SELECT proargtypes FROM pg_proc WHERE oid = 'pg_backend_pid()'::regprocedure)::regtype[] AS no_types
	FROM pg_proc, parts WHERE pg_proc.oid = 'int4pl(int, int)'::regprocedure;
CREATE TABLE ranged (r named_range, at timestamptz);
CREATE FUNCTION opens(refcursor) RETURNS refcursor LANGUAGE plpgsql AS $$
BEGIN OPEN $1 FOR SELECT name, at, words FROM parts; RETURN $1; END$$;
});
redirect_to($primary);
wait_for_replay($primary, $standby);
pause_replay($standby);

my $token = write_token(
	$primary, q{
INSERT INTO parts VALUES
	('pg_class', '2020-01-02 03:04:05.678+00', '2020-03-04 05:06:07', '2020-03-04',
	 '-1 year -2 mons +3 days -04:05:06.7', '{a,NULL,"NULL","null",""}', 0.1::float8 + 0.2, 1.1, '-1234.56',
	 '\x005cff', 'a<b/>'),
	('parts', '0044-03-15 12:00:00 BC', 'infinity', '-infinity', '-00:00:00.000001', NULL, 'NaN', '-0', NULL, '', '<c/>'),
	(NULL, NULL, NULL, NULL, '-1 day', '{}', 'Infinity', 3e-45, '0', NULL, NULL);
INSERT INTO whole SELECT p, ARRAY[p, NULL, p] FROM parts p;
INSERT INTO ranged VALUES ('[pg_class,pg_class]', 'now')});

my $on_primary = TcsTranscript->new($primary);
my $on_standby = TcsTranscript->new($standby);
my $look = TcsTranscript->new($standby, options => '-c tcs.read_level=eventual');

$on_standby->ok_query("SET tcs.session_token = '$token'; SET tcs.redirect_after = 0; SET tcs.max_wait = 10");

my @settings = (
	{},
	{ DateStyle => 'SQL, DMY', TimeZone => 'Asia/Kolkata' },
	{ DateStyle => 'German', TimeZone => 'Asia/Shanghai' },
	{ DateStyle => 'Postgres, MDY', TimeZone => 'Australia/Sydney' },
	{ DateStyle => 'ISO, YMD', TimeZone => 'America/St_Johns' },
	{ IntervalStyle => 'sql_standard' },
	{ IntervalStyle => 'postgres_verbose' },
	{ IntervalStyle => 'iso_8601' },
	{ extra_float_digits => 0 },
	{ extra_float_digits => -15 },
	{ array_nulls => 'off' },
	{ xmloption => 'document' },
	{ bytea_output => 'escape', quote_all_identifiers => 'on' });
my @reads = (
	'SELECT p FROM parts p',
	'SELECT ARRAY[p, NULL, p] FROM parts p',
	'SELECT ROW(p.*)::parts, at::text, took::text, amount::text, words::text FROM parts p',
	'SELECT * FROM whole',
	'SELECT at, r FROM ranged',
	'SELECT types FROM of_function');

foreach my $settings (@settings)
{
	my $name = join(', ', map { "$_ $settings->{$_}" } sort keys %$settings) || 'defaults';

	foreach my $client ($on_primary, $on_standby)
	{
		$client->ok_query("SET $_ = '$settings->{$_}'") foreach (keys %$settings);
	}
	foreach my $read (@reads)
	{
		foreach my $format (0, 1)
		{
			my $send = sub { bind_as($_[0]->parse('', $read), '', '', $format)->execute('')->sync };
			my $expected = transcript($on_primary, $send);
			my $before = redirected($look);

			is(transcript($on_standby, $send), $expected,
				"$name: $read, " . ($format ? 'binary' : 'text'));
			is(redirected($look) - $before, 1, '... redirected');
		}
	}
	foreach my $client ($on_primary, $on_standby)
	{
		$client->ok_query("RESET $_") foreach (keys %$settings);
	}
}

# An empty array that has a dimension in binary.
is(transcript($on_standby, 'SELECT no_types FROM of_function'), transcript($on_primary, 'SELECT no_types FROM of_function'),
	'an empty array of names');


##
## Parameters
##

my $ask = q{SELECT ($1::parts).at, ($1).words, ($1).took, ($1).amount, ($1).doc::text, count(*) FROM parts};
# as every setting reads it
my $row = '(pg_class,2020-01-02 03:04:05.678+00,,,P-1Y3DT-4.5S,"{a,NULL,""NULL""}",0.30000000000000004,,,,)';

foreach my $settings (@settings)
{
	my ($name) = %$settings;
	my $refused = ($name // '') =~ /^(?:array_nulls|xmloption)$/;

	my $send = sub {
		$_[0]->parse('', $ask)->bind('', '', $row)->execute('')->sync;
	};

	foreach my $client ($on_primary, $on_standby)
	{
		$client->ok_query("SET $_ = '$settings->{$_}'") foreach (keys %$settings);
	}
	my $expected = transcript($on_primary, $send);
	my $got = transcript($on_standby, $send);

	$name = join(', ', map { "$_ $settings->{$_}" } sort keys %$settings) || 'defaults';
	$refused
	  ? like($got, qr/C: 0A000.*cannot redirect a parameter of type parts/, "$name: a parameter is refused")
	  : is($got, $expected, "$name: a parameter");
	foreach my $client ($on_primary, $on_standby)
	{
		$client->ok_query("RESET $_") foreach (keys %$settings);
	}
}


##
## Cursors that a function leaves
##

foreach my $settings (@settings)
{
	my $name = join(', ', map { "$_ $settings->{$_}" } sort keys %$settings) || 'defaults';
	my $inexact = $name =~ /SQL|German|Postgres|sql_standard|verbose|extra|array|xml/;
	my @told;

	foreach my $client ($on_primary, $on_standby)
	{
		$client->ok_query("SET $_ = '$settings->{$_}'") foreach (keys %$settings);
		push @told, transcript($client, q{BEGIN; SELECT opens('c') FROM parts LIMIT 1; FETCH ALL FROM c; COMMIT});
		$client->query('ROLLBACK') if $client->status ne 'I';
		$client->ok_query("RESET $_") foreach (keys %$settings);
	}
	$inexact
	  ? like($told[1], qr/C: 0A000.*present settings/, "$name: a cursor is refused")
	  : is($told[1], $told[0], "$name: a cursor");
}


##
## Names that mean something else here
##

$primary->safe_psql('postgres', q{
ALTER TABLE one RENAME TO new_one;
ALTER TABLE old_one RENAME TO one;
ALTER TABLE new_one RENAME TO old_one;
INSERT INTO called SELECT 'one', 'old_one', 'pg_class'});
foreach my $read ('SELECT other FROM called', 'SELECT c.other FROM called c', 'SELECT c FROM called c',
	'SELECT ARRAY[name] FROM called')
{
	like(transcript($on_standby, $read), qr/C: 40001.*this standby has not replayed that/, "$read: another object here");
}
is(transcript($on_standby, 'SELECT same FROM called'), transcript($on_primary, 'SELECT same FROM called'),
	'one that has kept its name');


##
## The function by itself
##

is(psql_err($primary, "SELECT tcs_internal.redirect_text($_->[0])"), $_->[1], "redirect_text($_->[0])")
  foreach ([ 'ROW()', '22023' ], [ 'ROW(1, 2)', '22023' ], [ 'NULL', '00000' ],
	[ 'ROW(ROW(1))', '00000' ], [ '1', '42883' ]);

done_testing();

# test/t/512_redirect_values.pl
#
# Values of every type, and the settings of the session, redirected: the standby
# tells its client the same as the primary (see TcsStatements.pm).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use TcsStatements;
use TcsTest;
use TcsTranscript;
use TcsWire;

my $nodes = TcsStatements->new;
my ($primary, $standby, $token, $on_primary, $on_standby) = @$nodes{qw(primary standby token on_primary on_standby)};
my $version = server_version($primary);


##
## Types
##

my $me = $on_primary->ok_query('SELECT current_user');
my %value = (
	bool => 't', bytea => '\x00ff5c', char => 'x', name => 'A "name"',
	int8 => '-9223372036854775808', int2 => '-32768', int2vector => '1 2 3',
	int4 => '2147483647', regproc => 'now', text => "it's \\ \x{c3}\x{a9}",
	oid => '4294967295', tid => '(4294967295,7)', xid => '4294967295', cid => '7',
	oidvector => '1 4294967295', json => '{"a" : [1, null]}', xml => '<a b="c">d</a>',
	xid8 => '18446744073709551615', point => '(1.5,-2)', lseg => '[(1,2),(3,4)]',
	path => '[(1,2),(3,4)]', box => '(3,4),(1,2)', polygon => '((0,0),(1,1),(1,0))',
	line => '{1,-1,0.1}', float4 => '1.1', float8 => '0.30000000000000004',
	circle => '<(1,2),3>', money => '-1234.56', macaddr => '08:00:2b:01:02:03',
	inet => '192.168.0.1/24', cidr => '2001:db8::/32', macaddr8 => '08:00:2b:01:02:03:04:05',
	aclitem => "alice=r*w/$me", bpchar => 'ab ', varchar => 'abc ', date => '0044-03-15 BC',
	time => '23:59:59.999999', timestamp => 'infinity', timestamptz => '2024-06-01 12:34:56.789+00',
	interval => '1 year -2 days 03:04:05.6', timetz => '12:34:56.5+05:30', bit => '10100',
	varbit => '101110001', numeric => '-12345678901234567890.123450', refcursor => 'a "c"',
	regprocedure => 'abs(integer)', regoper => 'pg_catalog.||/',
	regoperator => '+(integer,integer)', regclass => 'other.t', regcollation => '"C"',
	regtype => 'timestamp with time zone', regrole => 'alice', regnamespace => 'other',
	regdatabase => 'postgres', uuid => 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
	pg_lsn => '16/B374D848', tsvector => q{'a':1A,3 'b c':2}, tsquery => q{'a':* & !'b' <2> 'c'},
	regconfig => 'english', regdictionary => 'simple', jsonb => '{"a": [1.50, null, "x\\u00e9"]}',
	jsonpath => '$.a[*] ? (@ > 1)', txid_snapshot => '10:20:10,14,15',
	pg_snapshot => '10:20:10,14,15', oid8 => '18446744073709551615',
	int4range => '[1,5)', numrange => '(1.5,]', tsrange => '["2024-01-01 00:00:00",)',
	tstzrange => 'empty', daterange => '[2024-01-01,2024-02-01)', int8range => '[-1,9223372036854775806)',
	int4multirange => '{[1,3),[5,7)}', nummultirange => '{}', tsmultirange => '{[2024-01-01,2024-01-02]}',
	tstzmultirange => '{(,)}', datemultirange => '{[2024-01-01,2024-02-01)}', int8multirange => '{[1,2)}',
	cardinal_number => '5', character_data => 'x', sql_identifier => 'y', time_stamp => '2024-06-01 12:00+00',
	yes_or_no => 'YES', mood => 'fine', pair => '(1,"a,""b")', named => '(1,other.t)', positive => '7',
	short => 'abc', shorts => '{a,NULL}', checked_pair => '(1,)', nested => '("(1,x)","{""(2,y)"",NULL}",sad,3)',
	plain => q{it's "}, with_plain => '(1,x)',
	must => '5', late => '5', late_pair => '(1,x)', textrange => '[a,"b,c"]', textmultirange => '{[a,b),[c,d)}', moodrange => '[sad,fine]', moodmultirange => '{[sad,fine]}',
);

# Their input functions take no value from anybody.
my %no_input = map { $_ => 1 } qw(pg_node_tree pg_ndistinct pg_dependencies pg_mcv_list
  pg_brin_bloom_summary pg_brin_minmax_multi_summary gtsvector);
my @types = map { [ split /\|/ ] } split /\n/, $on_primary->ok_query(
	q{SELECT t.oid, typname, typtype, format_type(t.oid, -1), typsend <> 0 AND typreceive <> 0,
			 (SELECT count(*) FROM pg_attribute WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped),
			 typarray <> 0
		FROM pg_type t
	   WHERE typtype <> 'p' AND (typtype <> 'b' OR typelem = 0 OR typsubscript <> 'array_subscript_handler'::regproc)
	   ORDER BY t.oid});
my (@unknown, @different);
my $checked = 0;

foreach my $type (@types)
{
	my ($oid, $name, $kind, $sql, $binary, $attributes, $has_array) = @$type;
	my $value = $value{$name};

	# a row of nulls of any table
	$value //= '(' . ',' x ($attributes - 1) . ')' if $kind eq 'c' && $attributes > 0;
	next if $no_input{$name} || ($kind eq 'c' && $attributes == 0);
	if (!defined $value)
	{
		push @unknown, $name;
		next;
	}

	# fields of type anyarray can be told to nobody who does not know their type
	next if $name eq 'pg_statistic_ext_data' || $kind eq 'c' && $on_primary->ok_query(
		"SELECT count(*) FROM pg_attribute WHERE atttypid = 'anyarray'::regtype AND attrelid = (SELECT typrelid FROM pg_type WHERE oid = $oid)"
	) ne '0';

	(my $literal = $value) =~ s/'/''/g;
	$literal = "'$literal'::$sql";
	# an element of a domain over arrays makes no array of that domain, and NULL
	# is no element of one that is NOT NULL
	$has_array = 'f' if $name =~ /^(shorts|must)$/;
	my $array = $has_array eq 't' ? "${sql}[]" : 'int[]';
	my $elements = $has_array eq 't' ? "ARRAY[x.v, NULL]" : "'{}'::int[]";
	my $elements_text = $on_primary->ok_query("SELECT ($elements)::text FROM (SELECT $literal AS v) x");
	my $statement =
	  "SELECT x.v, $elements AS a, \$1::$sql AS p, \$2::$array AS pa FROM one, (SELECT $literal AS v) x";

	foreach my $format ($binary eq 't' && $name ne 'with_plain' ? (0, 1) : (0))
	{
		my ($expected, $got) = map {
			transcript($_, sub { bind_as($_[0]->parse('', $statement), '', '', $format, $value, $elements_text)
				->describe('P', '')->execute('')->sync });
		} $on_primary, $on_standby;

		$checked++;
		# several functions or operators may have the name that is shown, so those
		# in arrays and rows of catalogs, like some of their own types, are refused
		next if $got =~ /cannot be redirected: column "[va]" has the type (reg(proc|oper)\[\]|pg_\w+(\[\])?),/;
		push @different, "$sql, format $format: $got\nexpected: $expected" if $got ne $expected;
		push @different, "$sql: $expected" if $expected =~ /error \|/;
	}
}
is(join("\n", @different), '', 'values of all types, as constants, in arrays, as parameters, in text and binary');
is("@unknown", '', 'all types have a value') if $version <= 18;
cmp_ok($checked, '>', 300, 'there were many types');

# Rows of real tables, of which many have columns without a binary form.
@different = ();
foreach my $table (split /\n/, $on_primary->ok_query(
	q{SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relnamespace = 'pg_catalog'::regnamespace ORDER BY 1}))
{
	# what no input function takes, see below
	next if $table =~ /^pg_(attribute|rewrite|statistic_ext_data|attrdef|constraint|statistic|policy|index|proc|trigger)$/;
	my ($expected, $got) = map { transcript($_, "SELECT * FROM $table ORDER BY ctid LIMIT 3") } $on_primary, $on_standby;

	push @different, "$table: $got\nexpected: $expected" if $got ne $expected;
}
is(join("\n", @different), '', 'rows of all catalogs');

# What no input function takes: the value, or a word that it cannot be had.
foreach my $sql (
	'SELECT ev_action FROM pg_rewrite ORDER BY oid LIMIT 1',
	'SELECT stxdndistinct FROM pg_statistic_ext_data',
	'SELECT stxddependencies FROM pg_statistic_ext_data',
	'SELECT stxdmcv FROM pg_statistic_ext_data',
	q{SELECT r FROM pg_rewrite r WHERE rulename = '_RETURN' ORDER BY oid LIMIT 1})
{
	my ($expected, $got) = map { transcript($_, $sql) } $on_primary, $on_standby;

	$got = $expected
	  if $got =~ /C: TC001 .*cannot be redirected|C: 0A000 .*cannot accept a value of type pg_node_tree/;
	is($got, $expected, "what has no input function: $sql");
}

# Whoever has such a value can have it shown by functions that trust it.
like(transcript($on_standby, 'SELECT ev_action FROM pg_rewrite LIMIT 1'),
	qr/C: 0A000 .*cannot accept a value of type pg_node_tree/, 'a value of type pg_node_tree is not taken');
$nodes->stays('a column of type anyarray', 'SELECT attmissingval FROM pg_attribute LIMIT 1', qr/error \| .* C: TC001 .*cannot be redirected/);

# Anonymous records have no fields that a client here could know.
$nodes->stays('an anonymous record', 'SELECT ROW(id, v) FROM t WHERE id = 1',
	qr/error \| .* C: TC001 .*cannot be redirected: column "row" has the type record/);
$nodes->stays('an array of anonymous records', 'SELECT array_agg(ROW(id, v)) FROM t WHERE id = 1',
	qr/error \| .* C: TC001 .*cannot be redirected/);


##
## The session's settings
##

my $shown = 'SELECT at, day, took, amount, small, raw, price, doc, n, '
  . q{at::text, day::text, took::text, amount::text, raw::text, price::text, small::text, }
  . q{to_tsvector(words), to_char(n, '9D9'), to_char(day, 'TMMonth') FROM measure};
my @settings = (
	"TimeZone = 'Asia/Kolkata'", "TimeZone = 'America/St_Johns'",
	"DateStyle = 'German, DMY'", "DateStyle = 'SQL, MDY'", "DateStyle = 'Postgres, YMD'",
	"IntervalStyle = iso_8601", "IntervalStyle = sql_standard", "IntervalStyle = postgres_verbose",
	"extra_float_digits = 0", "extra_float_digits = -15", "bytea_output = escape",
	"lc_monetary = 'C'", "lc_numeric = 'C'", "lc_time = 'C'", "xmlbinary = hex", "xmloption = document",
	"default_text_search_config = 'pg_catalog.english'", "standard_conforming_strings = off",
	"quote_all_identifiers = on", "array_nulls = off", "timezone_abbreviations = 'Australia'",
	"client_encoding = 'LATIN1'", "role = alice", "transform_null_equals = on", "backslash_quote = on",
	"work_mem = '64kB'", "enable_seqscan = off", "from_collapse_limit = 1", "statement_timeout = '1min'",
	"lock_timeout = '30s'", "jit = off", "geqo = off", "search_path = ''", "search_path = other, public",
);

foreach my $setting (@settings)
{
	my ($name) = $setting =~ /^(\w+)/;

	# removed in a later version
	next if $on_primary->ok_query("SELECT count(*) FROM pg_settings WHERE name = '$name'") eq '0' && $name ne 'role';
	next if $version >= 19 && $name eq 'standard_conforming_strings';
	$on_primary->ok_query('GRANT SELECT ON measure TO alice') if $name eq 'role';
	$nodes->both("SET $setting");
	(my $sql = $shown) =~ s/FROM measure/FROM public.measure/;
	$nodes->same("SET $setting", $sql);
	$nodes->same("SET $setting, constants",
		q{SELECT '2024-05-06 07:08:09+00'::timestamptz, '01/02/03'::date, '1 day 2 hours'::interval, 0.1::float8, 'a\b', '\x41'::bytea, '1.5'::money, 2 = NULL, current_setting('TimeZone'), current_user FROM public.one});
	$nodes->both("RESET $name");
}

$nodes->both(q{SET app.x = 'joe'; SET app.y = 'it''s \ "x"'});
$nodes->same('a setting of the user', q{SELECT current_setting('app.x'), current_setting('app.y'), current_setting('app.z', true) FROM one});
$nodes->both('SET ROLE alice');
$nodes->same('a policy on it', 'SELECT * FROM of_x');
$nodes->both(q{BEGIN; SET LOCAL app.x = 'ann'});
$nodes->same('SET LOCAL', 'SELECT * FROM of_x');
$nodes->both('ROLLBACK');
$nodes->same('after ROLLBACK', 'SELECT * FROM of_x');
$nodes->both('RESET app.x');
$nodes->same('after RESET', 'SELECT * FROM of_x');
$nodes->both('SET row_security = off');
# refused when the statement is rewritten, before it comes to the gate
$nodes->same('row_security off', 'SELECT * FROM of_x', redirect => 0);
$nodes->both('RESET row_security; RESET ROLE');
$nodes->same('as the owner', 'SELECT * FROM of_x ORDER BY 1');
$nodes->same('search_path as seen by a function', 'SELECT by_path() FROM one');
$nodes->both('SET search_path = other, public');
$nodes->same('search_path in the text and in a function', 'SELECT by_path(), v, current_schemas(true) FROM t WHERE id = 1');
$nodes->both('RESET search_path');
$nodes->both('SET client_min_messages = error');
$nodes->same('no notices wanted', 'SELECT tells() FROM one');
$nodes->both('RESET client_min_messages');
$nodes->both('SET statement_timeout = 100');
$nodes->same('statement_timeout', 'SELECT pg_sleep(60) FROM one');
$nodes->both('RESET statement_timeout');
$nodes->same('after statement_timeout', 'SELECT v FROM t WHERE id = 1');

# What the two configurations do not agree on: the session has what its node says.
foreach my $node ($primary, $standby)
{
	foreach my $setting ([ 'quote_all_identifiers', 'on' ], [ 'array_nulls', 'off' ])
	{
		my ($name, $to) = @$setting;
		my $admin = TcsWire->new($node, options => '-c tcs.read_level=eventual');
		my $was = $admin->ok_query("SHOW $name");

		$node->append_conf('postgresql.conf', "$name = $to");
		$node->reload;
		$admin->poll("SELECT current_setting('$name') = '$to'") or die "$name did not change";

		my $client = TcsWire->new($standby);

		$client->ok_query("SET tcs.session_token = '$token'; SET tcs.redirect_after = 0");
		my $nulls = $client->ok_query('SHOW array_nulls') eq 'on' ? 't' : 'f';
		my $before = $nodes->redirected;
		my ($result) = $client->query(q{SELECT ('{a,NULL}'::text[])[2] IS NULL FROM t WHERE id = 1});

		is($result->{state}, '00000', "$name = $to of " . $node->name);
		is($result->{rows}[0][0], $nulls, '... what the session was told');
		is($nodes->redirected - $before, 1, '... redirected');
		$node->append_conf('postgresql.conf', "$name = $was");
		$node->reload;
		$admin->poll("SELECT current_setting('$name') = '$was'") or die "$name did not change";
	}
}

# What was in force at the start of the session.
{
	my @options = (options => q{-c DateStyle=German -c app.x=ann -c extra_float_digits=-3 -c search_path=other,public});
	my @clients = map { TcsTranscript->new($_, @options) } $primary, $standby;

	$clients[1]->ok_query("SET tcs.session_token = '$token'; SET tcs.redirect_after = 0");
	my @told = map { transcript($_, q{SELECT day, amount, amount::text, day::text, current_setting('app.x'), t.v FROM measure, t WHERE t.id = 1}) } @clients;
	is($told[1], $told[0], 'settings of the start of the session');
}

done_testing();

# test/perl/TcsResults.pm
#
# What clients were answered, as text that a test can compare.  Results are those
# of TcsWire: its query() and results() return them.  Nothing here waits, but the
# functions that are given a client and SQL: they send the SQL by the simple
# protocol and wait for the end of its answer.

package TcsResults;

use strict;
use warnings;

use Exporter 'import';
use Test::More;

use TcsWire;

our @EXPORT = qw(answers last_answer answer_to described
  first_error error_after state_after outcome);

# Rows as text, or the SQLSTATE, of each result, with " / " between them.
sub answers
{
	my (@results) = @_;

	return join(' / ',
		map { $_->{state} eq '00000' ? TcsWire::rows_text($_) : $_->{state} } @results);
}

# Rows or SQLSTATE of the last result; '' without any.
sub last_answer
{
	my (@results) = @_;

	return @results ? answers($results[-1]) : '';
}

# Rows or SQLSTATE of the last result of some SQL; '' without any.
sub answer_to
{
	my ($client, $sql) = @_;

	return last_answer($client->query($sql));
}

# Rows of the last result of some SQL, or its SQLSTATE, message and detail.
sub described
{
	my ($client, $sql) = @_;

	return TcsWire::describe_result(($client->query($sql))[-1]);
}

# SQLSTATE of the first error among results, '00000' without one.
sub first_error
{
	my (@results) = @_;
	my ($failed) = grep { $_->{state} ne '00000' } @results;

	return $failed ? $failed->{state} : '00000';
}

# SQLSTATE of the first error of some SQL, '00000' without one.
sub error_after
{
	my ($client, $sql) = @_;

	return first_error($client->query($sql));
}

# SQLSTATE of the last result of some SQL.
sub state_after
{
	my ($client, $sql) = @_;

	return ($client->query($sql))[-1]{state};
}

# SQLSTATE of the first error among results, which also goes to the test's log;
# without one, what the last of them has copied or its rows.
sub outcome
{
	my (@results) = @_;
	my ($failed) = grep { $_->{state} ne '00000' } @results;

	if ($failed)
	{
		note(TcsWire::describe_result($failed));
		return $failed->{state};
	}
	return $results[-1]{copy} =~ s/\n\z//r if ($results[-1]{copy} // '') ne '';
	return TcsWire::rows_text($results[-1]);
}

1;

# test/perl/TcsTranscript.pm
#
# A client that keeps all that it is told: columns, parameters, rows, tags, errors
# and notices.  Two servers that give the same transcript cannot be told apart.
#
#     my $c = TcsTranscript->new($node);
#     is(transcript($c, 'SELECT 1'), transcript($d, 'SELECT 1'));
#     transcript($c, sub { bind_as($_[0]->parse('', 'SELECT $1'), '', '', 1, 'x')->execute('')->sync });

package TcsTranscript;

use strict;
use warnings;

use Exporter 'import';
use TcsWire;

our @ISA = ('TcsWire');     ## no critic (ProhibitExplicitISA)
our @EXPORT = qw(transcript bind_as);

sub _aside
{
	my ($self, $type, $body) = @_;

	push @{ $self->{described} }, "$type " . unpack('H*', $body)
	  if $type =~ /^[TtnH1-3]$/;
	return $self->SUPER::_aside($type, $body);
}

# All that a client is told for a message: text of the simple protocol, or what a
# function sends.
sub transcript
{
	my ($client, $send) = @_;
	my @told;

	$client->{described} = [];
	$client->{notices} = [];
	ref $send ? $send->($client) : $client->simple($send);
	my @results = $client->results;

	push @told, @{ $client->{described} };
	push @told, map { _said('notice', $_) } $client->notices;
	foreach my $result (@results)
	{
		push @told, map { _row_text($_) } @{ $result->{rows} };
		push @told, "copied: $result->{copy}" if $result->{copy};
		push @told,
			$result->{state} ne '00000' ? _said('error', $result->{error})
		  : $result->{suspended} ? 'suspended'
		  :                        $result->{tag};
	}
	return join("\n", @told, 'status ' . ($client->status // 'lost'));
}

sub _said
{
	my ($what, $fields) = @_;

	return join(' | ', $what, map { "$_: $fields->{$_}" }
		  grep { defined $fields->{$_} } qw(S C M D H s t c d n));
}

sub _row_text
{
	my ($row) = @_;

	return join('|',
		map { !defined $_ ? 'NULL' : /[^\x20-\x7e]/ ? '0x' . unpack('H*', $_) : $_ } @$row);
}

# Bind with a result format (0 text, 1 binary); parameters that are references
# are binary.
sub bind_as
{
	my ($client, $portal, $statement, $format, @params) = @_;

	return $client->_message('B',
		"$portal\0$statement\0"
		  . pack('n*', scalar @params, map { ref $_ ? 1 : 0 } @params)
		  . pack('n', scalar @params)
		  . TcsWire::_values(map { ref $_ ? $$_ : $_ } @params)
		  . pack('nn', 1, $format));
}

1;

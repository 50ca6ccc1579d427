#!/usr/bin/ruby
# ruby-pg: write on the primary, read it back on a standby.
#
#     PRIMARY_URL=... STANDBY_URL=... ./ruby_pg.rb
#
# The token comes with the write, as ParameterStatus: asking the connection for
# it is no round trip.
require 'pg'

primary = PG.connect(ENV.fetch('PRIMARY_URL'))
standby = PG.connect(ENV.fetch('STANDBY_URL'))

written = primary.exec_params('INSERT INTO notes (body) VALUES ($1) RETURNING id', ['hello from ruby-pg'])
id = written.getvalue(0, 0)
token = primary.parameter_status('tcs.session_token')
puts "token: #{token}"

# Without parameters both statements travel in one message, which is one
# transaction, so the token goes when the read is done.  exec returns the
# result of the last one.
read = standby.exec("SET LOCAL tcs.session_token = #{standby.escape_literal(token)};
                     SELECT body FROM notes WHERE id = #{standby.escape_literal(id)}")
puts "standby: #{read.ntuples == 1 ? read.getvalue(0, 0) : 'no such row'}"

exit !token.to_s.empty? && read.ntuples == 1

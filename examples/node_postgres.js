// node-postgres (npm: pg): write on the primary, read it back on a standby.
//
//     PRIMARY_URL=... STANDBY_URL=... node node_postgres.js
//
// The token comes with the write, as ParameterStatus.  node-postgres keeps no
// ParameterStatus, but the connection of each client has an event for it.
const { Client, Pool } = require('pg');

// For a client of your own, call this before connect().
function keepToken(client) {
  client.connection.on('parameterStatus', (message) => {
    if (message.parameterName === 'tcs.session_token') client.token = message.parameterValue;
  });
}

async function main() {
  const pool = new Pool({ connectionString: process.env.PRIMARY_URL });
  const standby = new Client({ connectionString: process.env.STANDBY_URL });

  pool.on('connect', keepToken);
  await standby.connect();

  // Take a client for the whole request: pool.query() does not tell which client
  // has written.
  const primary = await pool.connect();
  const written = await primary.query(
    'INSERT INTO notes (body) VALUES ($1) RETURNING id', ['hello from node-postgres']);
  const { id } = written.rows[0];
  const token = primary.token;
  primary.release();
  console.log('token:', token);

  // Without parameters both statements travel in one message, which is one
  // transaction, so the token goes when the read is done.
  const [, read] = await standby.query(
    `SET LOCAL tcs.session_token = ${standby.escapeLiteral(token)};
     SELECT body FROM notes WHERE id = ${standby.escapeLiteral(id)}`);
  console.log('standby:', read.rows.length ? read.rows[0].body : 'no such row');

  await Promise.all([pool.end(), standby.end()]);
  return Boolean(token) && read.rows.length === 1;
}

main().then(
  (ok) => process.exit(ok ? 0 : 1),
  (error) => { console.error(error.message); process.exit(1); });

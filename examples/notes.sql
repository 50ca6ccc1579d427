-- The table of the examples: psql "$PRIMARY_URL" -f notes.sql

CREATE TABLE notes (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	body text NOT NULL
);

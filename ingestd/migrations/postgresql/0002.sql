-- Keys that rotate, certificates, signing keys, the audit log, and the numbers by which other processes find what changed.

-- One row. Every transaction that changes something takes the next number, so changes are numbered in the order in which
-- they are committed. Deletions up to number `forgotten` are not remembered any more.
CREATE TABLE registry_state (
  id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
  change BIGINT NOT NULL,
  forgotten BIGINT NOT NULL
);
INSERT INTO registry_state (id, change, forgotten) VALUES (1, 1, 0);

ALTER TABLE clusters ADD COLUMN revoked_unix_ms BIGINT;
ALTER TABLE clusters ADD COLUMN heartbeat_unix_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE clusters ADD COLUMN client_count BIGINT NOT NULL DEFAULT 0;
ALTER TABLE clusters ADD COLUMN registered_clients BIGINT NOT NULL DEFAULT 0; -- that are not revoked
ALTER TABLE clusters ADD COLUMN change BIGINT NOT NULL DEFAULT 1;
UPDATE clusters SET registered_clients =
  (SELECT count(*) FROM clients WHERE clients.cluster_id = clusters.id AND clients.revoked_unix_ms IS NULL);
CREATE INDEX clusters_by_change ON clusters (change);

ALTER TABLE clients ADD COLUMN public_key TEXT NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN location TEXT NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN key_generation BIGINT NOT NULL DEFAULT 1;
ALTER TABLE clients ADD COLUMN key_created_unix_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN previous_key_hash BYTEA CHECK (length(previous_key_hash) = 32);
ALTER TABLE clients ADD COLUMN previous_key_expires_unix_ms BIGINT;
ALTER TABLE clients ADD COLUMN change BIGINT NOT NULL DEFAULT 1;
UPDATE clients SET key_created_unix_ms = created_unix_ms;
CREATE INDEX clients_by_change ON clients (change);

ALTER TABLE headends ADD COLUMN revoked_unix_ms BIGINT;
ALTER TABLE headends ADD COLUMN tokens_not_before_unix_s BIGINT NOT NULL DEFAULT 0;
ALTER TABLE headends ADD COLUMN change BIGINT NOT NULL DEFAULT 1;
CREATE INDEX headends_by_change ON headends (change);

-- What is not there any more, for those who have it in memory. An id that is registered again has no
-- row here, unless it is still to be erased where somebody was away.
CREATE TABLE deletions (
  kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('client', 'headend', 'cluster')),
  id TEXT COLLATE "C" NOT NULL,
  deleted_unix_ms BIGINT NOT NULL,
  erase BIGINT NOT NULL CHECK (erase IN (0, 1)), -- out of the journal too
  certificates BIGINT NOT NULL, -- how many were erased with it
  change BIGINT NOT NULL,
  PRIMARY KEY (kind, id)
);
CREATE INDEX deletions_by_change ON deletions (change);
CREATE INDEX deletions_by_time ON deletions (deleted_unix_ms);

-- The fleet's authority when it is our own; one row.
CREATE TABLE authority (
  id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
  certificate_pem TEXT NOT NULL,
  key_pem TEXT NOT NULL,
  created_unix_ms BIGINT NOT NULL
);

CREATE TABLE certificates (
  serial TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  type TEXT NOT NULL CHECK (type IN ('client', 'headend', 'server')),
  subject TEXT COLLATE "C" NOT NULL,
  not_before_unix_s BIGINT NOT NULL,
  not_after_unix_s BIGINT NOT NULL,
  revoked_unix_ms BIGINT,
  reason TEXT NOT NULL DEFAULT '',
  fingerprint TEXT NOT NULL,
  pem TEXT NOT NULL,
  newest BIGINT NOT NULL CHECK (newest IN (0, 1)), -- 1: of those of its type and subject that are not revoked
  change BIGINT NOT NULL
);
CREATE INDEX certificates_by_subject ON certificates (subject, type, not_after_unix_s);
CREATE INDEX certificates_by_change ON certificates (change);
CREATE INDEX certificates_by_end ON certificates (type, not_after_unix_s) WHERE newest = 1;
CREATE INDEX certificates_revoked ON certificates (not_after_unix_s) WHERE revoked_unix_ms IS NOT NULL;

CREATE TABLE signing_keys (
  kid TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  private_jwk TEXT NOT NULL,
  created_unix_ms BIGINT NOT NULL,
  expires_unix_ms BIGINT, -- NULL: it signs
  revoked_unix_ms BIGINT,
  change BIGINT NOT NULL
);

CREATE TABLE audit (
  number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at_unix_ms BIGINT NOT NULL,
  who TEXT NOT NULL,
  peer TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT COLLATE "C" NOT NULL,
  detail TEXT NOT NULL
);
CREATE INDEX audit_by_target ON audit (target, number);
CREATE FUNCTION audit_keeps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'check_violation';
END
$$;
CREATE TRIGGER audit_keeps BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
  FOR EACH STATEMENT EXECUTE FUNCTION audit_keeps();

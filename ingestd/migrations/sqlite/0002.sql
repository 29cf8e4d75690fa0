-- Keys that rotate, certificates, signing keys, the audit log, and the numbers by which other processes find what changed.

-- One row. Every transaction that changes something takes the next number, so changes are numbered in the order in which
-- they are committed. Deletions up to number `forgotten` are not remembered any more.
CREATE TABLE registry_state (
  id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  change INTEGER NOT NULL,
  forgotten INTEGER NOT NULL
) STRICT;
INSERT INTO registry_state (id, change, forgotten) VALUES (1, 1, 0);

ALTER TABLE clusters ADD COLUMN revoked_unix_ms INTEGER;
ALTER TABLE clusters ADD COLUMN heartbeat_unix_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clusters ADD COLUMN client_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clusters ADD COLUMN registered_clients INTEGER NOT NULL DEFAULT 0; -- that are not revoked
ALTER TABLE clusters ADD COLUMN change INTEGER NOT NULL DEFAULT 1;
UPDATE clusters SET registered_clients =
  (SELECT count(*) FROM clients WHERE clients.cluster_id = clusters.id AND clients.revoked_unix_ms IS NULL);
CREATE INDEX clusters_by_change ON clusters (change);

ALTER TABLE clients ADD COLUMN public_key TEXT NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN location TEXT NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN key_generation INTEGER NOT NULL DEFAULT 1;
ALTER TABLE clients ADD COLUMN key_created_unix_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN previous_key_hash BLOB CHECK (length(previous_key_hash) = 32);
ALTER TABLE clients ADD COLUMN previous_key_expires_unix_ms INTEGER;
ALTER TABLE clients ADD COLUMN change INTEGER NOT NULL DEFAULT 1;
UPDATE clients SET key_created_unix_ms = created_unix_ms;
CREATE INDEX clients_by_change ON clients (change);

ALTER TABLE headends ADD COLUMN revoked_unix_ms INTEGER;
ALTER TABLE headends ADD COLUMN tokens_not_before_unix_s INTEGER NOT NULL DEFAULT 0;
ALTER TABLE headends ADD COLUMN change INTEGER NOT NULL DEFAULT 1;
CREATE INDEX headends_by_change ON headends (change);

-- What is not there any more, for those who have it in memory. An id that is registered again has no
-- row here, unless it is still to be erased where somebody was away.
CREATE TABLE deletions (
  kind TEXT NOT NULL CHECK (kind IN ('client', 'headend', 'cluster')),
  id TEXT NOT NULL,
  deleted_unix_ms INTEGER NOT NULL,
  erase INTEGER NOT NULL CHECK (erase IN (0, 1)), -- out of the journal too
  certificates INTEGER NOT NULL, -- how many were erased with it
  change INTEGER NOT NULL,
  PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX deletions_by_change ON deletions (change);
CREATE INDEX deletions_by_time ON deletions (deleted_unix_ms);

-- The fleet's authority when it is our own; one row.
CREATE TABLE authority (
  id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  certificate_pem TEXT NOT NULL,
  key_pem TEXT NOT NULL,
  created_unix_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE certificates (
  serial TEXT NOT NULL PRIMARY KEY,
  type TEXT NOT NULL CHECK (type IN ('client', 'headend', 'server')),
  subject TEXT NOT NULL,
  not_before_unix_s INTEGER NOT NULL,
  not_after_unix_s INTEGER NOT NULL,
  revoked_unix_ms INTEGER,
  reason TEXT NOT NULL DEFAULT '',
  fingerprint TEXT NOT NULL,
  pem TEXT NOT NULL,
  newest INTEGER NOT NULL CHECK (newest IN (0, 1)), -- 1: of those of its type and subject that are not revoked
  change INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX certificates_by_subject ON certificates (subject, type, not_after_unix_s);
CREATE INDEX certificates_by_change ON certificates (change);
CREATE INDEX certificates_by_end ON certificates (type, not_after_unix_s) WHERE newest = 1;
CREATE INDEX certificates_revoked ON certificates (not_after_unix_s) WHERE revoked_unix_ms IS NOT NULL;

CREATE TABLE signing_keys (
  kid TEXT NOT NULL PRIMARY KEY,
  private_jwk TEXT NOT NULL,
  created_unix_ms INTEGER NOT NULL,
  expires_unix_ms INTEGER, -- NULL: it signs
  revoked_unix_ms INTEGER,
  change INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  at_unix_ms INTEGER NOT NULL,
  who TEXT NOT NULL,
  peer TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  detail TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_target ON audit (target, number);
CREATE TRIGGER audit_keeps BEFORE UPDATE ON audit
BEGIN
  SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_stays BEFORE DELETE ON audit
BEGIN
  SELECT RAISE(ABORT, 'the audit log is append-only');
END;

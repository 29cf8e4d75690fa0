-- Clusters, clients, headends.
CREATE TABLE clusters (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  region TEXT NOT NULL,
  datacenter TEXT NOT NULL,
  headend_url TEXT NOT NULL,
  created_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE clients (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  type TEXT NOT NULL CHECK (type IN ('docker', 'native', 'mobile')),
  cluster_id TEXT REFERENCES clusters (id),
  key_hash BLOB NOT NULL CHECK (length(key_hash) = 32), -- SHA-256 of the API key
  created_unix_ms INTEGER NOT NULL,
  revoked_unix_ms INTEGER -- NULL: not revoked
) STRICT, WITHOUT ROWID;
CREATE INDEX clients_by_cluster ON clients (cluster_id);

CREATE TABLE headends (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  cluster_id TEXT REFERENCES clusters (id),
  created_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX headends_by_cluster ON headends (cluster_id);
